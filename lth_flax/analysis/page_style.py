"""The constant parts of the report page: its style sheet and the notes on method."""

CSS = """
:root { color-scheme: light dark; --ink: #1d2229; --soft: #5b6572; --line: #d9dde3;
  --paper: #ffffff; --tint: #f3f5f8; --accent: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --soft: #9aa5b3; --line: #39414d; --paper: #15191f;
    --tint: #1e242d; --accent: #56b4e9; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .6rem; padding-top: .8rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
.question { color: var(--soft); margin: 0 0 1rem; }
.verdict { font-size: 1.15rem; padding: .9rem 1.1rem; background: var(--tint);
  border-left: 4px solid var(--accent); border-radius: 0 6px 6px 0; }
figure { margin: 1.6rem 0; }
/* Pictures have a white ground of their own, also on a dark page. */
figure img { display: block; max-width: 100%; height: auto; background: #fff;
  border-radius: 6px; padding: .5rem; border: 1px solid var(--line); }
figcaption, .note { color: var(--soft); font-size: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .28rem .8rem; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
thead th { border-bottom: 2px solid var(--soft); }
.pairs td { text-align: left; white-space: normal; overflow-wrap: anywhere; vertical-align: top; }
.pairs th { text-align: left; }
@media print { main { max-width: none; } figure { break-inside: avoid; } }
"""

METHOD_NOTES = """<ul>
<li><b>Unit.</b> The seed: initial weights, data order and split. Arms of one seed are paired;
several draws of a control are averaged within a seed for means and intervals.</li>
<li><b>Primary test</b>, stated before the run: the mean paired gap over the levels of moderate
to high sparsity named above, at the last epoch. If the ticket&#8217;s initialization were
nothing special, any of a seed&#8217;s 1 + d runs could have been the ticket, so which one is
called so is permuted within each seed. One-sided; the other direction is tested the same way,
each at the stated level.</li>
<li><b>Per level</b>: the same permutations, step-down max-T (Westfall &amp; Young): an adjusted p
bounds the chance of any false claim over all levels. Sparsity 0 is not tested: there a ticket
is the dense network.</li>
<li><b>Interval</b>: Student&#8217;s t over seeds, each level by itself.</li>
<li><b>Equivalence</b>: two one-sided t tests within the margin, and the smallest margin that
would pass. A gap can be both significant and negligible; then the verdict says both.</li>
<li><b>Breakdown sparsity</b>: the last level before accuracy stays more than 1 point below the
dense network of the same seed, interpolated. <b>Crater sparsity</b>: the same where half of
(dense minus majority class) is lost. &#8220;&#8805;&#8221; marks a curve that never got there;
a difference with such a curve is a bound, pulled towards zero.</li>
<li><b>Diverged runs</b> stay in every table and test with the accuracy they have.</li>
</ul>"""
