"""Pages made at random from the parts of CSS that decide colours and sizes, for a comparison with a browser."""

from __future__ import annotations

import random

COLOURS = (
    "red", "#1a2b3c", "rgb(10 20 30 / 0.5)", "rgba(13,110,253,.5)", "hsl(210deg 50% 40%)", "hwb(120 20% 20%)",
    "oklch(0.6 0.05 200)", "oklab(0.6 0.1 0.05)", "lab(50% 40 59.5)", "lch(60 50 200)", "color(display-p3 0.5 0.4 0.3)",
    "color(srgb-linear 0.2 0.5 0.5)", "color-mix(in srgb, #000 20%, white)", "color-mix(in oklab, red, blue 30%)",
    "color-mix(in oklch longer hue, red, blue)", "color-mix(in srgb, currentcolor 30%, white)",
    "light-dark(#123, #fed)",
    "var(--one)", "var(--two, teal)", "var(--none, rgb(1 2 3))", "var(--none)", "currentcolor", "inherit", "initial",
    "unset", "revert", "transparent", "rgb(from teal r 50 b)", "oklch(from var(--one) calc(l * 0.5) c h)",
    "nonsense", "rgb(1 2)", "-moz-red", "#12345", "CanvasText", "GrayText",
)  # fmt: skip
SIZES = (
    "20px", "1.5em", "1.25rem", "120%", "14pt", "2vw", "3vh", "5vmin", "large", "x-small", "smaller", "larger",
    "calc(1rem + 4px)", "calc((1em + 2vw) / 2)", "clamp(1rem, 2vw, 3rem)", "min(30px, 2em)", "max(1em, 1.2rem, 10px)",
    "calc(100% - 2px)", "round(17.3px, 4px)", "calc(1px * sqrt(400))", "inherit", "initial", "unset", "revert",
    "var(--size)", "var(--none, 22px)", "var(--none)", "calc(var(--factor) * 1rem)", "banana", "12", "-4px", "3dvw",
    "abs(-18px)", "hypot(12px, 16px)", "mod(33px, 14px)",
)  # fmt: skip
BACKGROUNDS = (
    "#fff", "red url(x.png) no-repeat", "url(x.png) center / cover, #eee", "none", "linear-gradient(#123, #456)",
    "var(--back)", "var(--none)", "no-repeat 0 0 / 10px #abc", "-moz-linear-gradient(red, blue)", "red blue",
    "inherit", "content-box #def", "rgb(0 0 0 / 10%)", "transparent", "initial",
)  # fmt: skip
FONTS = (
    "bold 18px/1.5 serif", "italic small-caps 300 1.2em sans-serif", "inherit", "20px", "caption", "14px/1 a, b",
    "var(--font)", "normal large x", "revert",
)  # fmt: skip
WEIGHTS = ("bold", "normal", "bolder", "lighter", "300", "850", "inherit", "initial", "heavy", "calc(100 * 4)", "unset")
SIMPLE = (
    "p", "div", "span", "li", "a", "td", "*", ".a", ".b", ".c", ".d", "#one", "#two", "[data-x]", "[data-x=y]",
    "[class~=a]", "[class^=a]", "[lang|=en]", "[data-x='Y' i]", "h2", "button", "input", "code", "label",
)  # fmt: skip
PSEUDO = (
    ":nth-child(odd)", ":nth-child(2n+1)", ":nth-child(-n+3)", ":nth-child(even of .a)", ":nth-last-child(2)",
    ":nth-of-type(2n)", ":nth-last-of-type(1)", ":first-child", ":last-child", ":only-child", ":first-of-type",
    ":last-of-type", ":only-of-type", ":not(.a)", ":not(.a, p)", ":not(:first-child)", ":is(.a, #one)",
    ":where(.b, #two)",
    ":has(> .a)", ":has(+ .b)", ":has(.c, .d)", ":empty", ":hover", ":focus", ":not(:hover)", ":checked", ":disabled",
    ":enabled", ":required", ":optional", ":link", ":any-link", ":root", ":lang(en)", ":lang(de)", ":focus-visible",
    ":not(:focus-within)", ":is(:hover, .a)", ":-moz-any(.a)", ":unknown", "::before", "::-webkit-scrollbar",
    "::-moz-selection", ":placeholder-shown", ":target", ":visited", ":is(.a, :unknown)", ":nth-child(0)",
)  # fmt: skip
MEDIA = (
    "screen", "print", "(min-width: 600px)", "(max-width: 37.5em)", "(width >= 900px)", "(400px <= width <= 1500px)",
    "(prefers-color-scheme: dark)", "(prefers-reduced-motion: reduce)", "not print", "not all and (width > 1px)",
    "screen and (orientation: landscape)", "(hover: hover) and (pointer: fine)", "print, (min-width: 1em)", "(color)",
    "(min-aspect-ratio: 16/9)", "not (max-width: 800px)", "(width < 500px) or (height > 700px)", "(bogus: 1)",
    "only screen and (min-resolution: 2dppx)", "(prefers-color-scheme)", "(min-width: 100000px)",
    "(scripting: enabled)",
)  # fmt: skip
SUPPORTS = (
    "(display: grid)", "not (display: grid)", "(color: oklch(0.5 0.1 20))", "(bogus: 1)", "selector(:has(a))",
    "(display: flex) and (not (color: red))", "(gap: 1rem) or (bogus: 1)", "(--x: 1)", "(width: 1dvh)",
)  # fmt: skip
LAYERS = ("base", "theme", "theme.dark", "utilities", "")
TAGS = (
    "div",
    "p",
    "span",
    "a",
    "ul",
    "button",
    "h2",
    "code",
    "small",
    "b",
    "label",
    "input",
    "section",
    "sub",
    "table",
)


class Snippets:
    """Pages by number: the same number always gives the same page."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._elements = 0

    def page(self) -> str:
        """A page with a style sheet and some twenty elements, each with a number in `data-n`."""
        self._elements = 0
        variables = "--one: #345; --two: initial; --size: 1.5rem; --factor: 1.75; --back: #cde; --font: bold 17px x"
        rules = "\n".join(self._rule(0) for _ in range(self._random.randint(4, 16)))
        body = "".join(self._element(0) for _ in range(6))
        order = self._pick(("", "@layer utilities, base;", "@layer theme.dark, base, theme;"))
        return (
            f"<!DOCTYPE html><html lang=en><head><title>t</title><style>{order}:root {{ {variables} }}\n{rules}</style>"
            f"</head><body>{body}</body></html>"
        )

    def _pick(self, among: tuple[str, ...]) -> str:
        return self._random.choice(among)

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _element(self, depth: int) -> str:
        tag = self._pick(TAGS)
        self._elements += 1
        attributes = f" data-n={self._elements}"
        if self._chance(0.7):
            attributes += f' class="{" ".join(sorted({self._pick(("a", "b", "c", "d")) for _ in range(2)}))}"'
        for written in (
            "id=one",
            "id=two",
            "data-x=y",
            "lang=en-GB",
            "lang=de",
            "hidden",
            "disabled",
            "required",
            "checked",
        ):
            if self._chance(0.06):
                attributes += f" {written}"
        if self._chance(0.15):
            attributes += f' style="{self._declaration()}; {self._declaration()}"'
        inner = "text" if self._chance(0.5) else ""
        if depth < 3:
            inner += "".join(self._element(depth + 1) for _ in range(self._random.randint(0, 2)))
        match tag:
            case "input":
                return f"<input type={self._pick(('text', 'checkbox', 'radio', 'button'))}{attributes}>"
            case "ul":
                items = "".join(f'<li class="{self._pick(("a", "b", "c"))}">text' for _ in range(3))
                return f"<ul{attributes}>{items}</ul>"
            case "table":
                rows = "".join(f'<tr class="{self._pick(("a", "b"))}"><td>x<td>y' for _ in range(3))
                return f"<table{attributes}>{rows}</table>"
            case "a":
                return f"<a href=#{attributes}>text</a>"
            case "p":
                return f"<p{attributes}>text</p>"
            case _:
                return f"<{tag}{attributes}>{inner}</{tag}>"

    def _compound(self) -> str:
        made = self._pick(SIMPLE)
        if self._chance(0.3):
            extra = self._pick(SIMPLE)
            if extra[0] in ".#[":
                made += extra
        if self._chance(0.35):
            made += self._pick(PSEUDO)
        return made

    def _selector(self) -> str:
        parts = [self._compound()]
        while self._chance(0.35) and len(parts) < 5:
            parts += [self._pick((" ", " > ", " + ", " ~ ")), self._compound()]
        return "".join(parts)

    def _selectors(self) -> str:
        return ", ".join(self._selector() for _ in range(1 if self._chance(0.75) else 2))

    def _declaration(self) -> str:
        important = " !important" if self._chance(0.1) else ""
        name, values = self._random.choice(
            [
                ("color", COLOURS), ("color", COLOURS), ("background-color", COLOURS), ("background", BACKGROUNDS),
                ("font-size", SIZES), ("font-size", SIZES), ("font", FONTS), ("font-weight", WEIGHTS),
                ("visibility", ("hidden", "visible", "inherit", "bogus")),
                ("display", ("none", "block", "flex", "bogus")),
                ("opacity", ("0.5", "50%", "2", "calc(0.1 + 0.2)", "x")),
                ("outline", ("0", "none", "2px solid red", "bogus")),
                ("--one", COLOURS), ("--two", COLOURS), ("--size", ("2em", "1rem", "initial", "var(--none)")),
                ("--factor", ("1", "calc(1 + 1)", "var(--missing, 1.2)")),
                ("all", ("unset", "revert", "initial")) if self._chance(0.3) else ("color", COLOURS),
            ]
        )  # fmt: skip
        return f"{name}: {self._pick(values)}{important}"

    def _block(self, depth: int) -> str:
        parts = [self._declaration() for _ in range(self._random.randint(1, 3))]
        if depth < 3 and self._chance(0.25):
            nested = self._pick(
                ("&.b", "& p", "> .a", "&:first-child", ".c &", "span, .d", "& + &", "&:not(.c)", "+ p", "&::before")
            )
            parts.append(f"{nested} {{ {self._block(depth + 1)} }} {self._declaration()}")
        if depth < 3 and self._chance(0.12):
            parts.append(f"@media {self._pick(MEDIA)} {{ {self._block(depth + 1)} }} {self._declaration()}")
        return "; ".join(parts)

    def _rule(self, depth: int) -> str:
        kind = self._random.random()
        if depth < 2 and kind < 0.3:
            inner = "\n".join(self._rule(depth + 1) for _ in range(self._random.randint(1, 3)))
            if kind < 0.1:
                return f"@media {self._pick(MEDIA)} {{ {inner} }}"
            if kind < 0.17:
                return f"@supports {self._pick(SUPPORTS)} {{ {inner} }}"
            return f"@layer {self._pick(LAYERS)} {{ {inner} }}"
        return f"{self._selectors()} {{ {self._block(depth)} }}"
