"""The one page that reports are put in: everything inside, nothing fetched, no script; light, dark and on paper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup

CSS = """
:root{color-scheme:light dark;--ink:#1d2330;--dim:#5c6577;--paper:#fff;--card:#f6f7f9;--line:#dde1e8;
--good:#1a8a5a;--help:#2b7fb8;--quiet:#9aa3b2;--held:#c98a12;--bad:#c8383d;--now:#1a8a5a;--was:#a9b1bf;--accent:#2f5fd0}
@media (prefers-color-scheme:dark){:root{--ink:#e6e9ef;--dim:#98a2b3;--paper:#14171d;--card:#1c2129;--line:#2e3541;
--good:#43c08a;--help:#5aaee0;--quiet:#6c7686;--held:#e0ab45;--bad:#f0696d;--now:#43c08a;--was:#697384;--accent:#86a9ff}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:60rem;padding:2.5rem 1.5rem 4rem;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
h1{font-size:1.75rem;line-height:1.25;margin:0 0 .25rem;letter-spacing:-.01em}
h2{font-size:1.2rem;margin:2.75rem 0 .75rem;padding-bottom:.35rem;border-bottom:1px solid var(--line)}
h3{font-size:1rem;margin:1.5rem 0 .5rem}
p{margin:.5rem 0;max-width:44rem}.dim,figcaption,footer{color:var(--dim);font-size:.9rem}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.75rem;margin:1.5rem 0}
.card{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.85rem 1rem}
.card b{display:block;font-size:1.6rem;line-height:1.2;font-variant-numeric:tabular-nums;white-space:nowrap}
.card span{color:var(--dim);font-size:.88rem}
.card.good b{color:var(--good)}.card.bad b{color:var(--bad)}.card.held b{color:var(--held)}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.92rem;margin:.5rem 0}
th{text-align:left;color:var(--dim);font-weight:600;font-size:.82rem}
td,th{padding:.42rem .75rem .42rem 0;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td.t{white-space:nowrap;font-variant-numeric:tabular-nums;color:var(--dim)}
figure{margin:1rem 0}.chart{width:100%;height:auto;display:block}
.chart text{font:12px system-ui,sans-serif;fill:var(--dim)}.chart .name,.chart .value{fill:var(--ink)}
.chart .grid{stroke:var(--line);stroke-width:1}.chart .curve{fill:none;stroke:var(--accent);stroke-width:2}
.chart .good{fill:var(--good)}.chart .help{fill:var(--help)}.chart .quiet{fill:var(--quiet)}
.chart .held{fill:var(--held)}.chart .bad{fill:var(--bad)}.chart .now{fill:var(--now)}.chart .was{fill:var(--was)}
.chart .soft{opacity:.45}
.key{display:flex;flex-wrap:wrap;gap:.3rem 1.1rem;margin:.25rem 0 0;padding:0;list-style:none;font-size:.86rem;
color:var(--dim)}.key i{display:inline-block;width:.75rem;height:.75rem;border-radius:.15rem;margin-right:.4rem}
i.good{background:var(--good)}i.help{background:var(--help)}i.quiet{background:var(--quiet)}i.held{background:var(--held)}
i.bad{background:var(--bad)}i.now{background:var(--now)}i.was{background:var(--was)}
.note{border-left:3px solid var(--held);background:var(--card);padding:.6rem .9rem;border-radius:0 .4rem .4rem 0;
margin:.75rem 0}.note.good{border-color:var(--good)}.note.bad{border-color:var(--bad)}
code,pre{font:.86em/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
pre{white-space:pre-wrap;background:var(--card);border:1px solid var(--line);border-radius:.4rem;padding:.6rem .8rem}
.tag{font-size:.8rem;font-weight:600}.tag.good{color:var(--good)}.tag.bad{color:var(--bad)}.tag.held{color:var(--held)}
footer{margin-top:3rem;border-top:1px solid var(--line);padding-top:.75rem}
@media print{:root{color-scheme:light;--ink:#000;--dim:#444;--paper:#fff;--card:#fff;--line:#bbb;--good:#1a8a5a;
--help:#2b7fb8;--quiet:#9aa3b2;--held:#c98a12;--bad:#c8383d;--now:#1a8a5a;--was:#a9b1bf;--accent:#2f5fd0}
body{max-width:none;padding:0;font-size:10.5pt}h2{break-after:avoid}figure,.card,tr,.note{break-inside:avoid}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""

_PAGE = Markup(
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
    "<title>{title}</title>\n<style>{css}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
)


def page(title: str, body: Iterable[Markup]) -> str:
    """A whole document."""
    return str(_PAGE.format(title=title, css=Markup(CSS), body=Markup("\n").join(body)))  # noqa: S704 - our constant


def heading(words: str, level: int = 2) -> Markup:
    """A heading."""
    return Markup("<h{level}>{words}</h{level}>").format(level=level, words=words)


def text(words: str, kind: str = "") -> Markup:
    """A paragraph."""
    return Markup('<p class="{}">{}</p>').format(kind, words) if kind else Markup("<p>{}</p>").format(words)


def note(words: str, kind: str = "") -> Markup:
    """A remark that stands out."""
    return Markup('<div class="note {}">{}</div>').format(kind, words)


def cards(items: Iterable[tuple[object, str, str]]) -> Markup:
    """Large figures: value, words, colour class."""
    made = [Markup('<div class="card {}"><b>{}</b><span>{}</span></div>').format(k, v, w) for v, w, k in items]
    return Markup('<div class="cards">{}</div>').format(Markup("").join(made))


def figure(chart: Markup, caption: str, key: Mapping[str, str]) -> Markup:
    """A chart with its caption and the meaning of its colours."""
    entries = [Markup('<li><i class="{}"></i>{}</li>').format(kind, words) for kind, words in key.items()]
    return Markup('<figure>{}<ul class="key">{}</ul><figcaption>{}</figcaption></figure>').format(
        chart, Markup("").join(entries), caption
    )


def table(head: Sequence[str], rows: Iterable[Sequence[object]], numbers: Iterable[int] = ()) -> Markup:
    """A table; ``numbers`` are the columns that are aligned right."""
    right = frozenset(numbers)
    kinds = [Markup(' class="n"') if place in right else Markup("") for place in range(len(head))]
    top = Markup("").join(Markup("<th{}>{}</th>").format(k, h) for k, h in zip(kinds, head, strict=True))
    body = Markup("").join(
        Markup("<tr>{}</tr>").format(
            Markup("").join(Markup("<td{}>{}</td>").format(k, v) for k, v in zip(kinds, row, strict=True))
        )
        for row in rows
    )
    return Markup('<div class="wide"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>').format(
        top, body
    )
