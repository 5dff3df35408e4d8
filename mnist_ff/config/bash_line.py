"""A command line as bash reads it, and words quoted so that bash reads them back."""

from __future__ import annotations

import re

ESCAPED = re.compile(r"""[ !"#$&'()*;<>?\[\\\]^`{|}~]""")
"""What a backslash must precede in bash outside quotes."""
EXPANDS = frozenset("$`&();<>|*?{")
"""What makes bash expand a word, or end it, where it stands outside quotes."""
TOKENS = {
    quote: re.compile(pattern, re.DOTALL)
    for quote, pattern in {"": r"[ \t\n]+|\$'|\\.?|.", "'": ".", "$'": ".", '"': r"\\[$`\"\\\n]|\\\Z|."}.items()
}
"""What bash reads at once, by the quote that is open."""


def quoted(text: str, quote: str) -> str:
    """Text as bash reads it inside this quote, or outside any; a ! is safe from the history in none but by a \\."""
    if not quote:
        return ESCAPED.sub(r"\\\g<0>", text)
    if quote == "$'":
        return re.sub(r"[\\']", r"\\\g<0>", text).replace("!", r"\041")
    text = text.replace("'", r"'\''") if quote == "'" else re.sub(r'[$`"\\]', r"\\\g<0>", text)
    return text.replace("!", rf"{quote}\!{quote}")


def read_line(line: str) -> tuple[list[str], dict[int, tuple[str, int]]]:
    """A line's words, the last one what is being typed, and for each place in that one the open quote and how many of
    its letters are known by then; no places where bash would make something else of it, by a variable say."""
    words, quote, places, plain = [""], "", {0: ("", 0)}, True
    at = 0
    while (token := TOKENS[quote].match(line, at)) is not None:
        text, at = token[0], token.end()
        if not quote and text[0] in " \t\n":
            words, places, plain = [*words, ""] if len(places) > 1 else words, {}, True
        elif not quote and text in ("'", '"', "$'"):
            quote = text
        elif quote and text == quote[-1]:
            quote = ""
        else:
            plain = plain and not _is_active(text, quote, words[-1])
            escape = len(text) == 2 or (text == "\\" and at == len(line) and quote != "'")
            words[-1] += text[1:].strip("\n") if escape else text
        places[at] = (quote, len(words[-1]))
    return words, places if plain else {}


def _is_active(token: str, quote: str, before: str) -> bool:
    """Whether bash takes this for more than itself, after what the word has so far."""
    if quote:
        return token in {"'": "", "$'": "\\", '"': "$`"}[quote]
    return token in EXPANDS or (token == "~" and before[-1:] in ("", "=", ":"))
