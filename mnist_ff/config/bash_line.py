"""Split a command line as bash does, and quote words for bash."""

from __future__ import annotations

import re

ESCAPED = re.compile(r"""[ !"#$&'()*;<>?\[\\\]^`{|}~]""")
"""Characters that bash needs a backslash for outside quotes."""
EXPANDS = frozenset("$`&();<>|*?{")
"""Characters outside quotes that make bash expand or end a word."""
TOKENS = {
    quote: re.compile(pattern, re.DOTALL)
    for quote, pattern in {"": r"[ \t\n]+|\$'|\\.?|.", "'": ".", "$'": ".", '"': r"\\[$`\"\\\n]|\\\Z|."}.items()
}
"""A token of bash inside each kind of quote. The empty string stands for no quote."""


def quoted(text: str, quote: str) -> str:
    """Text escaped for bash inside this quote, or outside any. A ! needs a backslash against history expansion."""
    if not quote:
        return ESCAPED.sub(r"\\\g<0>", text)
    if quote == "$'":
        return re.sub(r"[\\']", r"\\\g<0>", text).replace("!", r"\041")
    text = text.replace("'", r"'\''") if quote == "'" else re.sub(r'[$`"\\]', r"\\\g<0>", text)
    return text.replace("!", rf"{quote}\!{quote}")


def read_line(line: str) -> tuple[list[str], dict[int, tuple[str, int]]]:
    """The words of a line; the last one is being typed. Also, for each position in the line within that word, the open
    quote and the number of its letters before. No positions if bash would expand the word, such as a variable."""
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
    """Whether bash gives this token a special meaning, after what the word has so far."""
    if quote:
        return token in {"'": "", "$'": "\\", '"': "$`"}[quote]
    return token in EXPANDS or (token == "~" and before[-1:] in ("", "=", ":"))
