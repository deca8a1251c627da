// What axe finds on pages, and whether anything leaves the screen:
//   node accessible.mjs FOLDER PAGE.html ...
// FOLDER holds node_modules with axe-core and puppeteer-core. Each page is looked
// at in two widths and both colour schemes, everything opened; JSON on stdout.
import {createRequire} from "node:module";
import fs from "node:fs";

const [folder, ...pages] = process.argv.slice(2);
const load = createRequire(`${folder}/`);
const axe = fs.readFileSync(load.resolve("axe-core/axe.min.js"), "utf8");
const browser = await load("puppeteer-core").launch({
  executablePath: process.env.CHROMIUM, args: ["--no-sandbox"],
});
const found = [];
for (const path of pages) {
  for (const width of [1280, 390]) {
    for (const scheme of ["light", "dark"]) {
      const page = await browser.newPage();
      const asked = [];
      page.on("request", (r) => r.url().startsWith("data:") || asked.push(r.url()));
      await page.setViewport({width, height: 900});
      await page.emulateMediaFeatures(
        [{name: "prefers-color-scheme", value: scheme}]);
      await page.goto(`file://${path}`);
      await page.evaluate(() =>
        document.querySelectorAll("details").forEach((d) => { d.open = true; }));
      await page.evaluate(axe);
      const violations = await page.evaluate(async () =>
        (await window.axe.run()).violations.map((v) =>
          `${v.impact} ${v.id}: ${v.nodes.map((n) => n.target).join(", ")}`));
      const wide = await page.evaluate(() =>
        document.documentElement.scrollWidth > window.innerWidth);
      found.push({path, width, scheme, violations, wide, asked: asked.length});
      await page.close();
    }
  }
}
await browser.close();
console.log(JSON.stringify(found));
