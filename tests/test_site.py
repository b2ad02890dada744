"""What the site makes of a page beside what mkdocs does."""

from __future__ import annotations

from scripts.site_tables import as_cards


def table(*rows: str) -> str:
    def row(text: str, tag: str) -> str:
        cells = "".join(f"<{tag}>{one}</{tag}>" for one in text.split("|"))
        return f"<tr>\n{cells}\n</tr>"

    head, *body = rows
    lines = [row(one, "td") for one in body]
    return f"<table><thead>{row(head, 'th')}</thead><tbody>{''.join(lines)}</tbody></table>"


def test_a_wide_table_of_sentences_names_each_cell() -> None:
    sentence = "Words that never appear in a <code>reply</code>, separated by commas."
    made = as_cards(table("setting|default|may be|does", f"BANNED|empty|text|{sentence}"))
    assert made.startswith("<table data-cards>")
    assert '<td data-label="setting">BANNED</td>' in made
    assert f'<td data-label="does">{sentence}</td>' in made
    assert made.count("data-label") == 4


def test_japanese_is_as_wide_as_it_looks() -> None:
    row = "`/話す`|全員|どこでも|どこからでもボットに話しかけることができます"
    assert "data-cards" in as_cards(table("コマンド|人|場所|すること", row))


def test_tables_of_figures_and_narrow_ones_stay_tables() -> None:
    figures = table("conversations|gpt2bot|generate|llama", "1|155|24 (6.5)|187 (0.8)")
    narrow = table("setting|does", f"BANNED|{'Words that never appear. ' * 9}")
    assert as_cards(figures) == figures
    assert as_cards(narrow) == narrow
