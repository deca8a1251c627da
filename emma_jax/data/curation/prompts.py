"""What models are asked: a prompt of each kind, and how long its answer is.

{instruction}, {prompt} and {text} stand for the record's. Every prompt ends in
the JSON object that is wanted, and another may be given in its place.
"""

_JSON = "Reply with JSON alone: "

PROMPTS = {
  "score": "Rate the picture's aesthetic quality from 0 (unusable) to 10 "
  '(outstanding). Reply with JSON alone: {"score": 6.5}',
  "judge": "The first picture was edited into the second one by this "
  'instruction: "{instruction}". Rate from 0 to 10 how exactly the second '
  "picture follows it, with everything else unchanged and without flaws. "
  'Reply with JSON alone: {"score": 6.5}',
  "ocr": "Read all text in each of the two pictures, exactly as it is "
  'written. Reply with JSON alone: {"source": ["text of the first", ...], '
  '"target": ["text of the second", ...]}',
  "face": "If both pictures show the same place with people, rate from 0 "
  "(other persons) to 1 (surely the same persons) how similar their faces "
  'are. Without people the score is null. Reply with JSON alone: {"score": '
  "0.9}",
  "reverse": 'An editing instruction says: "{instruction}". The first '
  "picture was edited into the second one by it. Write the instruction that "
  "turns the second picture back into the first, in the same style. Reply "
  'with JSON alone: {"instruction": "..."}',
  "quality": "Rate from 0 (wrong or useless) to 10 (outstanding) how good a "
  "training example this is: are the pictures sharp, and is the text true, "
  'complete and well written? Text: "{text}" '
  f'{_JSON}{{"score": 6.5}}',
  "caption": "Describe the picture in English in two to four sentences, as a "
  "caption from which it could be drawn: subjects and their number, colours, "
  "places, actions, style, and any text in quotes exactly as it is written. "
  f'Say nothing that cannot be seen. {_JSON}{{"caption": "..."}}',
  "instruction": "Write one instruction, in English, for an edit of this "
  "picture that a photo editor could do in one step: add, remove or replace "
  "an object, change a colour, a material, the background, the weather or the "
  "style. Name exactly what is meant, so that nothing else would change. Also "
  "write the instruction that would undo it, naming what is there now. "
  f'{_JSON}{{"instruction": "...", "reverse": "..."}}',
  "read": "Read all text in the picture, exactly as it is written, a line or "
  f'sign at a time. {_JSON}{{"texts": ["...", ...]}}, with an empty list '
  "where there is none.",
  "portrait": "Is the picture a portrait: are one or a few persons its main "
  f'subject, with their faces seen? {_JSON}{{"portrait": true}}',
  "rewrite": "Rewrite this prompt for a text-to-image model so that the "
  "picture is unmistakable: keep every object, number, colour, place and "
  "quoted text, add no further object, and say plainly how the objects stand "
  'to each other, in English, at most 80 words. Prompt: "{prompt}" '
  f'{_JSON}{{"prompt": "..."}}',
}

# Tokens of an answer, for estimates of what it will cost.
ANSWER_TOKENS = {
  "score": 12,
  "judge": 12,
  "quality": 12,
  "face": 12,
  "portrait": 12,
  "stem": 12,
  "ocr": 60,
  "read": 60,
  "reverse": 40,
  "instruction": 60,
  "caption": 150,
  "rewrite": 100,
}
