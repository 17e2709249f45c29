"""The method as a picture: a frozen teacher, its student, and the three views by which attention is transferred.

`scripts/render_cards.py` writes `method.svg` beside this file.
"""

WIDTH, HEIGHT = 860, 420
TEACHER, STUDENT, VIEW, LOSS, INK = "#dbe7f5", "#fdebd0", "#e6f4e6", "#f7dfe3", "#333333"
LEVELS = 3
VIEWS = {
    "channel view": "weights of channels",
    "global view": "attention among chunks",
    "local view": "attention inside a chunk",
}


def draw_method() -> str:
    """The picture as SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="13" fill="{INK}">',
        "<title>MV-AT: a student learns from a teacher's attention in three views</title>",
        f'<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="{INK}"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *network("teacher, frozen", 26, 40, 74, TEACHER),
        *network("student, trained", 408, 300, 40, STUDENT),
        *box(10, 198, 90, 34, "white", "noisy audio"),
        *line(100, 206, 130, 140),
        *line(100, 224, 130, 322),
        *transfer(),
        *box(640, 318, 200, 52, LOSS, "loss of enhancement", "student's output to clean"),
        *line(560, 335, 640, 340),
        *box(640, 206, 200, 84, LOSS, "+ beta * distance of attention", "over views and blocks", "where both attend"),
        *line(560, 160, 640, 226),
    ]
    return "\n".join([*parts, "</svg>", ""])


def network(name: str, name_at: int, top: int, height: int, colour: str) -> list[str]:
    """Encoder blocks that shrink and decoder blocks that grow again, in a row."""
    parts = [text(345, name_at, name)]
    middle = top + 60
    for number in range(2 * LEVELS):
        depth = min(number, 2 * LEVELS - 1 - number)
        tall = height - 18 * depth if height > 50 else height - 8 * depth
        x = 135 + 72 * number
        kind = "encoder" if number < LEVELS else "decoder"
        parts += box(x, middle - tall // 2, 58, tall, colour, kind)
        if number:
            parts += line(x - 14, middle, x, middle)
    return parts


def transfer() -> list[str]:
    """The three views between the networks, with arrows from both to each."""
    parts = []
    for number, (name, meaning) in enumerate(VIEWS.items()):
        x = 135 + 144 * number
        parts += box(x, 194, 132, 52, VIEW, name, meaning)
        parts += line(x + 66, 142, x + 66, 194) + line(x + 66, 338, x + 66, 246)
    return parts


def box(x: int, y: int, width: int, height: int, colour: str, *lines: str) -> list[str]:
    """A box with lines of text in its middle."""
    first = y + height / 2 + 4 - 8 * (len(lines) - 1)
    rect = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="5" fill="{colour}" stroke="{INK}"/>'
    return [rect, *(text(x + width / 2, first + 16 * row, line, row > 0) for row, line in enumerate(lines))]


def text(x: float, y: float, content: str, small: bool = False) -> str:
    """A line of text around `x`."""
    size = ' font-size="10"' if small else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="middle"{size}>{content}</text>'


def line(x1: int, y1: int, x2: int, y2: int) -> list[str]:
    """An arrow."""
    return [f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{INK}" marker-end="url(#head)"/>']
