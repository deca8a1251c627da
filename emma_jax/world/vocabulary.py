"""Every word and piece the world's texts are made of."""

import itertools
import re

from emma_jax.world.language import CHINESE, ENGLISH, Language

_TABLES = (
  "shapes",
  "plurals",
  "colours",
  "backgrounds",
  "sizes",
  "places",
  "relations",
  "numbers",
  "answers",
)


# Chinese writes no spaces: the words of its templates, so that "背景" is the
# same piece wherever it stands.
_CHINESE_WORDS = (
  "的",
  "在",
  "和",
  "把",
  "是",
  "有",
  "吗",
  "它",
  "这",
  "上",
  "边",
  "值",
  "背景",
  "变成",
  "涂成",
  "换成",
  "移到",
  "添加",
  "去掉",
  "删除",
  "然后",
  "图中",
  "几个",
  "几条",
  "物体",
  "什么",
  "颜色",
  "形状",
  "哪里",
  "位置",
  "数字",
  "左边",
  "右边",
  "多少",
  "结果",
  "哪个",
  "柱子",
  "最高",
  "多高",
  "，",
  "？",
)


def _entries(language: Language) -> list[str]:
  """All names and answers of a language."""
  tables = (getattr(language, table).values() for table in _TABLES)
  return [language.article, *itertools.chain(*tables)]


def words() -> tuple[str, ...]:
  """English words, Chinese pieces, digits and punctuation, without spaces.

  Each piece is listed once, English first. Any text of the world is a sequence
  of these pieces (and spaces), found by greedy longest match; but for the texts
  of `language.LATER`, which also say "first", "second" and "picture".
  """
  phrasings = itertools.chain(*ENGLISH.templates.values())
  texts = _entries(ENGLISH) + [re.sub(r"\{\w+\}", " ", p) for p in phrasings]
  pieces = ["an", *re.findall(r"[a-z]+|[^a-z\s]", " ".join(texts))]
  pieces += [*"0123456789", *_entries(CHINESE), *_CHINESE_WORDS]
  return tuple(dict.fromkeys(pieces))
