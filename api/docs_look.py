"""How /docs looks and what its script does; both are named by hash in the page's policy."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root{color-scheme:light dark;--line:#d8dbe0;--soft:#f4f5f7;--quiet:#5b6370;--link:#0b57d0}
@media(prefers-color-scheme:dark){
:root{--line:#3a3f47;--soft:#1e2126;--quiet:#a3abb8;--link:#8ab4f8}body{background:#131519;color:#e6e8eb}}
*{box-sizing:border-box}
body{margin:0;font:16px/1.5 system-ui,sans-serif}
header,main{max-width:62rem;margin:auto;padding:1rem}
h1{margin:0 0 .25rem}h1 small{font-size:1rem;color:var(--quiet);font-weight:400}
h2{margin:1.75rem 0 .5rem;font-size:1.15rem}
h3{margin:1rem 0 .25rem;font-size:.9rem;color:var(--quiet)}
nav{display:flex;flex-wrap:wrap;gap:0 1rem}
a{color:var(--link)}
input{width:100%;margin-top:.75rem;padding:.5rem .75rem;font:inherit;
border:1px solid var(--line);border-radius:.4rem;background:var(--soft);color:inherit}
details{border:1px solid var(--line);border-radius:.4rem;margin:.4rem 0}
summary{padding:.5rem .75rem;cursor:pointer;overflow-wrap:anywhere}
summary span{color:var(--quiet)}
details>div{padding:0 .75rem .75rem}
code,pre{font:.875rem/1.5 ui-monospace,monospace}
pre{position:relative;margin:.25rem 0;padding:.6rem .75rem;background:var(--soft);
border-radius:.4rem;white-space:pre-wrap;overflow-wrap:anywhere}
pre button{float:right;margin:0 0 .25rem .5rem;font:inherit;color:var(--link);background:none;
border:1px solid var(--line);border-radius:.3rem;cursor:pointer}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;vertical-align:top;padding:.3rem .75rem .3rem 0;
border-top:1px solid var(--line)}
th{color:var(--quiet);font-weight:400;border:0}
td:first-child{white-space:nowrap}
b.get,b.post,b.patch,b.delete{display:inline-block;min-width:4.2rem;font-size:.8rem}
b.get{color:#0a7d33}b.post{color:#0b57d0}b.patch{color:#9a5b00}b.delete{color:#c5221f}
@media(prefers-color-scheme:dark){
b.get{color:#6dd58c}b.post{color:#8ab4f8}b.patch{color:#fdd663}b.delete{color:#f28b82}}
"""

SCRIPT: Final = """
const filter = document.getElementById("filter");
const all = [...document.querySelectorAll("section:not(#models) details")];
function show() {
  const words = filter.value.toLowerCase().split(/\\s+/).filter(Boolean);
  let found = 0;
  for (const each of all) {
    const text = each.textContent.toLowerCase();
    each.hidden = !words.every((word) => text.includes(word));
    found += !each.hidden;
  }
  for (const each of document.querySelectorAll("section:not(#models)"))
    each.hidden = !each.querySelector("details:not([hidden])");
  document.getElementById("none").hidden = found > 0;
}
function unfold() {
  const aim = document.getElementById(location.hash.slice(1));
  if (aim && aim.tagName === "DETAILS") { aim.open = true; aim.scrollIntoView(); }
}
filter.addEventListener("input", show);
addEventListener("hashchange", unfold);
addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== filter) {
    event.preventDefault();
    filter.focus();
  }
});
document.addEventListener("click", (event) => {
  if (event.target.tagName === "BUTTON")
    navigator.clipboard?.writeText(event.target.nextSibling.textContent);
});
unfold();
"""
