"""English and Chinese wording, as two tables of the same form."""

from collections.abc import Mapping
import dataclasses
import re

from emma_jax.world.scene import PLACES

# Unified ideographs, their extensions, and those for compatibility.
_CHINESE = re.compile(
  "[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


def is_chinese(text: str) -> bool:
  """Whether a text holds Chinese characters.

  >>> is_chinese("a sign 出口"), is_chinese("a café")
  (True, False)
  """
  return _CHINESE.search(text) is not None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Language:
  """Names and templates of one language; templates are chosen at random."""

  name: str
  space: str  # what stands between words
  article: str  # "a red star"
  shapes: Mapping[str, str]
  plurals: Mapping[str, str]
  colours: Mapping[str, str]
  backgrounds: Mapping[str, str]
  sizes: Mapping[str, str]
  places: Mapping[str, str]
  relations: Mapping[str, str]
  numbers: Mapping[int, str]
  answers: Mapping[str, str]
  templates: Mapping[str, tuple[str, ...]]

  def noun(
    self, shape: str, colour: str | None = None, size: str | None = None
  ) -> str:
    """Shape with what is named of it: "large red star"."""
    words = [self.shapes[shape]]
    if colour:
      words.insert(0, self.colours[colour])
    if size:
      words.insert(0, self.sizes[size])
    return self.space.join(words)

  def one(
    self, shape: str, colour: str | None = None, size: str | None = None
  ) -> str:
    """The same with an article: "an orange star"."""
    noun = self.noun(shape, colour, size)
    article = self.article
    if article == "a" and noun[0] in "aeiou":
      article = "an"
    return article + self.space + noun

  def many(self, number: int, shape: str, size: str | None = None) -> str:
    """A number of equal shapes: "three large stars"."""
    words = [self.numbers[number], self.plurals[shape]]
    if size:
      words.insert(1, self.sizes[size])
    return self.space.join(words)


ENGLISH = Language(
  name="en",
  space=" ",
  article="a",
  shapes={
    s: s
    for s in (
      "circle",
      "square",
      "triangle",
      "star",
      "cross",
      "diamond",
      "pentagon",
      "hexagon",
    )
  },
  plurals={
    "circle": "circles",
    "square": "squares",
    "triangle": "triangles",
    "star": "stars",
    "cross": "crosses",
    "diamond": "diamonds",
  },
  colours={
    c: c for c in ("red", "green", "blue", "yellow", "purple", "orange")
  },
  backgrounds={b: b for b in ("white", "grey", "pink", "cyan", "cream")},
  sizes={"small": "small", "large": "large"},
  places={p: p for p in PLACES},
  relations={
    "left": "left of",
    "right": "right of",
    "above": "above",
    "below": "below",
  },
  numbers={1: "one", 2: "two", 3: "three", 4: "four"},
  answers={"yes": "yes", "no": "no", "there": "yes", "absent": "no"},
  templates={
    # captions
    "and": ("{a} and {b}",),
    "relation": ("{a} {relation} {b}",),
    "on": ("{text} on a {background} background",),
    # edits
    "recolour": ("make the {thing} {colour}", "paint the {thing} {colour}"),
    "add": ("add {a}",),
    "add at": ("add {a} at the {place}",),
    "remove": ("remove the {thing}", "delete the {thing}"),
    "replace": ("replace the {thing} with {a}",),
    "move": ("move the {thing} to the {place}",),
    "background": (
      "make the background {background}",
      "change the background to {background}",
    ),
    "then": ("{first} and {second}",),
    # questions about scenes
    "count all": ("how many things are there?", "how many objects do you see?"),
    "count shape": (
      "how many {things} are there?",
      "how many {things} do you see?",
    ),
    "count colour": ("how many {colour} things are there?",),
    "colour": (
      "what colour is the {thing}?",
      "which colour does the {thing} have?",
    ),
    "shape": (
      "what shape is the {colour} thing?",
      "which shape does the {colour} thing have?",
    ),
    "where": ("where is the {thing}?", "in which place is the {thing}?"),
    "ordered": ("is the {a} {relation} the {b}?",),
    "existence": ("is there {a}?", "do you see {a}?"),
    # questions about STEM pictures
    "digit": ("what digit is this?", "which digit do you see?"),
    "left digit": ("what is the left digit?",),
    "right digit": ("what is the right digit?",),
    "arithmetic": ("what is the sum?", "what is the result?"),
    "tallest": ("which bar is the tallest?", "what colour is the tallest bar?"),
    "value": (
      "how tall is the {colour} bar?",
      "what is the value of the {colour} bar?",
    ),
    "sides": ("how many sides does it have?", "how many sides do you see?"),
    "its shape": ("what shape is this?",),
    "its colour": ("what colour is it?",),
    "its background": ("what colour is the background?",),
  },
)

_ZH_SHAPES = {
  "circle": "圆形",
  "square": "正方形",
  "triangle": "三角形",
  "star": "星形",
  "cross": "十字",
  "diamond": "菱形",
  "pentagon": "五边形",
  "hexagon": "六边形",
}

CHINESE = Language(
  name="zh",
  space="",
  article="一个",
  shapes=_ZH_SHAPES,
  plurals=_ZH_SHAPES,
  colours={
    "red": "红色",
    "green": "绿色",
    "blue": "蓝色",
    "yellow": "黄色",
    "purple": "紫色",
    "orange": "橙色",
  },
  backgrounds={
    "white": "白色",
    "grey": "灰色",
    "pink": "粉色",
    "cyan": "青色",
    "cream": "米色",
  },
  sizes={"small": "小", "large": "大"},
  places=dict(
    zip(
      PLACES,
      ("左上", "上方", "右上", "左侧", "中间", "右侧", "左下", "下方", "右下"),
    )
  ),
  relations={"left": "左边", "right": "右边", "above": "上面", "below": "下面"},
  numbers={1: "一个", 2: "两个", 3: "三个", 4: "四个"},
  answers={"yes": "是", "no": "不是", "there": "有", "absent": "没有"},
  templates={
    "and": ("{a}和{b}",),
    "relation": ("{a}在{b}的{relation}",),
    "on": ("{background}背景上的{text}",),
    "recolour": ("把{thing}变成{colour}", "把{thing}涂成{colour}"),
    "add": ("添加{a}",),
    "add at": ("在{place}添加{a}",),
    "remove": ("去掉{thing}", "删除{thing}"),
    "replace": ("把{thing}换成{a}",),
    "move": ("把{thing}移到{place}",),
    "background": ("把背景变成{background}", "把背景换成{background}"),
    "then": ("{first}，然后{second}",),
    "count all": ("有几个物体？", "图中有几个物体？"),
    "count shape": ("有几个{things}？", "图中有几个{things}？"),
    "count colour": ("有几个{colour}的物体？",),
    "colour": ("{thing}是什么颜色？", "{thing}的颜色是什么？"),
    "shape": ("{colour}的物体是什么形状？",),
    "where": ("{thing}在哪里？", "{thing}在什么位置？"),
    "ordered": ("{a}在{b}的{relation}吗？",),
    "existence": ("有{a}吗？", "图中有{a}吗？"),
    "digit": ("这是什么数字？", "图中是什么数字？"),
    "left digit": ("左边的数字是什么？",),
    "right digit": ("右边的数字是什么？",),
    "arithmetic": ("和是多少？", "结果是多少？"),
    "tallest": ("哪个柱子最高？", "最高的柱子是什么颜色？"),
    "value": ("{colour}的柱子有多高？", "{colour}的柱子的值是多少？"),
    "sides": ("它有几条边？", "图中的形状有几条边？"),
    "its shape": ("这是什么形状？",),
    "its colour": ("它是什么颜色？",),
    "its background": ("背景是什么颜色？",),
  },
)

# English alone, and younger than the tiny tokenizer's ids, which the shipped
# weights know: their words are no part of the world's vocabulary, so that no id
# moves. A tokenizer has "first" and "picture" of open text.
LATER = {
  "two one": (
    "place the {thing} of the first picture on the background of the second",
    "move the {thing} of the first picture to the background of the second",
  ),
  "two several": (
    "place the things of the first picture on the background of the second",
    "move the things of the first picture to the background of the second",
  ),
}

LANGUAGES = (ENGLISH, CHINESE)
