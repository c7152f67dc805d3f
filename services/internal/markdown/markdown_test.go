package markdown

import (
	"strings"
	"testing"
)

func TestHTML(t *testing.T) {
	for name, c := range map[string]struct{ markdown, want string }{
		"Paragraph": {"Hello *you*, **all** ~~none~~", "<p>Hello <em>you</em>, <strong>all</strong> <del>none</del></p>\n"},
		"List":      {"3. a\n4. b", "<ol start=\"3\">\n<li>a</li>\n<li>b</li>\n</ol>\n"},
		"Link":      {"[site](https://example.org/a?b=1&c=2)", "<p><a href=\"https://example.org/a?b=1&amp;c=2\" rel=\"nofollow noreferrer\">site</a></p>\n"},
		"BareLink":  {"see https://example.org now", "<p>see <a href=\"https://example.org\" rel=\"nofollow noreferrer\">https://example.org</a> now</p>\n"},
		"Picture":   {"![a map](https://example.org/map.png)", "<p><a href=\"https://example.org/map.png\" rel=\"nofollow noreferrer\">a map</a></p>\n"},
		"PictureInLink": {
			"[![a map](https://example.org/map.png)](https://example.org/)",
			"<p><a href=\"https://example.org/\" rel=\"nofollow noreferrer\">a map</a></p>\n",
		},
		"Table":  {"|a|b|\n|-|-|\n|1|2|", "<table>\n<thead>\n<tr>\n<th>a</th>\n<th>b</th>\n</tr>\n</thead>\n<tbody>\n<tr>\n<td>1</td>\n<td>2</td>\n</tr>\n</tbody>\n</table>\n"},
		"Escape": {"1 < 2 & \"x\"", "<p>1 &lt; 2 &amp; &#34;x&#34;</p>\n"},
		"Code":   {"```go\na < b\n```", "<pre><code>a &lt; b\n</code></pre>\n"},
		"Empty":  {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := HTML(c.markdown)
			if err != nil || got != c.want {
				t.Errorf("got %q, %v\nwant %q", got, err, c.want)
			}
		})
	}
}

// hostile is what people try. None of it may leave anything that runs, loads or leads elsewhere than it says.
var hostile = []string{
	"<script>alert(1)</script>",
	"a <img src=x onerror=alert(1)> b",
	"<a href=\"javascript:alert(1)\">x</a>",
	"<iframe src=\"https://example.org\"></iframe>",
	"<style>*{display:none}</style>",
	"[x](javascript:alert(1))",
	"[x](JaVaScRiPt:alert(1))",
	"[x](java\tscript:alert(1))",
	"[x](&#106;avascript:alert(1))",
	"[x](javascript&colon;alert(1))",
	"[x](\x01javascript:alert(1))",
	"[x](vbscript:x)",
	"[x](data:text/html;base64,PHNjcmlwdD4=)",
	"[x](file:///etc/passwd)",
	"[x](//example.org)",
	"[x](https://example.org \"\\\" onmouseover=alert(1) x=\\\"\")",
	"![x](data:image/svg+xml;base64,PHN2Zz4=)",
	"![x](https://example.org/pixel.gif)",
	"<javascript:alert(1)>",
	"[x]: javascript:alert(1)\n\n[x]",
	"```\"><script>alert(1)</script>\nx\n```",
	"`<script>alert(1)</script>`",
}

func TestHTMLHoldsNothingThatRuns(t *testing.T) {
	for _, markdown := range hostile {
		got, err := HTML(markdown)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"<script", "<img", "<iframe", "<style", "onerror=", "onmouseover=", "href=\"java", "href=\"vb", "href=\"data", "href=\"file", "href=\"//"} {
			if strings.Contains(got, bad) {
				t.Errorf("%q leaves %s: %q", markdown, bad, got)
			}
		}
	}
}

func TestText(t *testing.T) {
	for name, c := range map[string]struct{ markdown, want string }{
		"Paragraphs": {"Hello *you*,\n**all**\n\nBye  \nme", "Hello you, all\n\nBye\nme"},
		"Headings":   {"# One\n## Zwölf\ntext", "One\n===\n\nZwölf\n-----\n\ntext"},
		"Lists":      {"- a\n- b\n  - c\n\n3. x\n4. y", "- a\n- b\n  - c\n\n3. x\n4. y"},
		"LooseList":  {"- a\n\n  more\n\n- b", "- a\n\n  more\n\n- b"},
		"Links": {
			"[site](https://example.org/) <https://example.org/b> https://example.org/c [x](javascript:y) [https://example.org](https://example.org)",
			"site (https://example.org/) https://example.org/b https://example.org/c x https://example.org",
		},
		"Mail":    {"[desk@example.org](mailto:desk@example.org)", "desk@example.org"},
		"Picture": {"![a map](https://example.org/map.png)", "a map (https://example.org/map.png)"},
		"Quote":   {"> a\n>\n> b", "> a\n>\n> b"},
		"Code":    {"```\nx := 1\n\ny\n```\nand `a  b`", "    x := 1\n\n    y\n\nand a  b"},
		"Table":   {"|a|b|\n|-|-|\n|1|2|", "a | b\n1 | 2"},
		"HTML":    {"a <b>bold</b>\n\n<script>alert(1)</script>\n\nb", "a bold\n\nb"},
		"Escapes": {"1 \\* 2 &amp; &#65; AT&T", "1 * 2 & A AT&T"},
		"Rule":    {"a\n\n***\n\nb", "a\n\n----\n\nb"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := Text(c.markdown); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func FuzzMarkdown(f *testing.F) {
	for _, seed := range hostile {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, markdown string) {
		html, err := HTML(markdown)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(html, "<script") || strings.Contains(html, "href=\"javascript") {
			t.Errorf("%q leaves %q", markdown, html)
		}
		Text(markdown)
	})
}
