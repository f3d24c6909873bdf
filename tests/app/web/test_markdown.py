from __future__ import annotations

import pytest

from app.web.markdown import to_html


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("# A *b*", '<h1 id="a-b">A <em>b</em></h1>'),
        ("a\nb", "<p>a b</p>"),
        ("`x < 1` and **y**", "<p><code>x &lt; 1</code> and <strong>y</strong></p>"),
        ("[t](https://e.org/a_b)", '<p><a href="https://e.org/a_b">t</a></p>'),
        ("[t](accuracy.md)", '<p><a href="/accuracy">t</a></p>'),
        ("[t](../secret.md)", "<p>[t](../secret.md)</p>"),
        ("- a\n- b\n  c", "<ul><li>a</li><li>b c</li></ul>"),
        ("1. a", "<ol><li>a</li></ol>"),
        ("> q", '<blockquote class="notice"><p>q</p></blockquote>'),
        ("```\n# no\n\n<b>\n```", '<pre tabindex="0"><code># no\n\n&lt;b&gt;</code></pre>'),
        ("[x](javascript:alert(1))", "<p>[x](javascript:alert(1))</p>"),
        ("<script>", "<p>&lt;script&gt;</p>"),
        ('[x](/a"onclick="y)', '<p><a href="/a&#34;onclick=&#34;y">x</a></p>'),
        ("2 * 3 * 4", "<p>2 * 3 * 4</p>"),
    ],
)
def test_forms(text: str, html: str) -> None:
    assert str(to_html(text)) == html


def test_a_table() -> None:
    html = str(to_html("| a | b |\n|---|--:|\n| `1` | <2 |"))
    assert '<th scope="col">a</th>' in html
    assert "<td><code>1</code></td><td>&lt;2</td>" in html


def test_a_heading_ends_a_paragraph() -> None:
    assert str(to_html("a\n## b\nc")) == '<p>a</p>\n<h2 id="b">b</h2>\n<p>c</p>'
