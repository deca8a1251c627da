"""A procedural world in which every task of the paper has an exact score.

A picture is a scene of one to four things, a bar chart, a digit, a sum, or a
large polygon; a sample is a pure function of (task, split, index).

  scene      what a picture holds, as data; names, palette, held-out pairs
  render     data -> (rows, columns, 3) uint8
  language   English and Chinese wording, as tables
  draws      named random streams; random things, scenes and STEM pictures
  questions, captions, edits    the texts of the three families of tasks
  tasks      `sample(task, split, index)` and `WorldSource`
  detector   `read(picture) -> Scene`
  scoring    exact scores, majority baselines, truths in words
  vocabulary every word the texts use

Stated simplifications, none of which the model knows of:
  - The canvas is 96x96: 3x3 cells of 32 px, at most one thing in a cell, its
    centre within one pixel of the cell's. Six shapes, six colours, two sizes,
    five plain pale backgrounds; nothing overlaps, rotates or has texture.
  - The `*_shapes` tasks are the same on wide and tall canvases too, from 2:1
    to 1:2 (`scene.CANVASES`), with more or fewer cells of 32 px; things keep
    their size, STEM pictures go by the shorter side.
  - `editing_two` has two sources: the things of the first picture are placed on
    the background of the second, whose own things are no part of the result.
  - "Left of" and "above" compare columns and rows strictly; places are nine,
    the ninths of a canvas: four cells in a row are left, two between, right.
  - A caption names everything there is: what it leaves open (colour, size,
    place) is random; an unnamed background is white.
  - An added thing is large unless its size is named, and may stand in any free
    cell (of its place, where that is named); a changed or moved thing keeps its
    size.
  - Four of the 36 colour-shape pairs occur in `*_pairs` tasks only, neither in
    a picture nor in a text of any other task (`scene.HELD_OUT`).
  - Drawing and editing texts are English; Chinese ones (`drawing_zh`,
    `editing_zh`) and two-step edits (`editing_multi`) are for testing, though
    the pure function gives them in every split. About a quarter of the
    understanding records are Chinese.
  - Splits are separate random streams. The world is finite, so equal captions
    (never chosen to be equal) can occur in two splits.
"""
