"""Draws what was measured against what is wanted, as one SVG file that needs nothing else."""
from html import escape

WIDTH, LABELS, LINE = 900, 470, 22
GOOD, BAD = "#2a9d4e", "#d1495b"


def draw(rows, path):
    """rows: (what, share) with share = measured / wanted, 1 or less where the bound is met."""
    room = WIDTH - LABELS - 90
    longest = max([1.5, *(min(share, 4) for _, share in rows)])
    def x(share):
        return LABELS + room * min(share, longest) / longest
    height = LINE * len(rows) + 50
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
           'font-size="12">', f'<rect width="{WIDTH}" height="{height}" fill="white"/>']
    for i, (what, share) in enumerate(rows):
        y = 30 + LINE * i
        colour = GOOD if share <= 1 else BAD
        out += [f'<text x="{LABELS - 8}" y="{y + 13}" text-anchor="end">{escape(what)}</text>',
                f'<rect x="{LABELS}" y="{y}" width="{x(share) - LABELS:.1f}" height="{LINE - 6}" fill="{colour}"/>',
                f'<text x="{x(share) + 5:.1f}" y="{y + 13}">{share:.2f}</text>']
    out += [f'<line x1="{x(1):.1f}" x2="{x(1):.1f}" y1="24" y2="{height - 18}" stroke="black" stroke-dasharray="4 3"/>',
            f'<text x="{x(1):.1f}" y="18" text-anchor="middle">wanted</text>',
            f'<text x="{LABELS}" y="{height - 5}">measured ÷ wanted: shorter is better</text>', "</svg>"]
    with open(path, "w") as f:
        f.write("\n".join(out) + "\n")
