// The audit page's script: filters, menus that keep the hierarchy, keys, and corrections.csv made in the page.
'use strict';
const DATA = JSON.parse(document.getElementById('data').textContent);
const find = (selector, from = document) => [...from.querySelectorAll(selector)];
const one = (selector, from = document) => from.querySelector(selector);
const articles = find('article');
const KEY = 'hfk-audit-' + DATA.key;
let kept = {};
try { kept = JSON.parse(localStorage.getItem(KEY) || '{}'); } catch (error) { /* storage may be closed to files */ }

const box = (article) => one('input[type=checkbox]', article);
const change = (article, head) => find('.change', article).find((line) => line.dataset.head === head);
const answer = (line) => one('select', line)?.value ?? line.dataset.to;
function set(line, label) {
  const menu = one('select', line);
  fill(menu);
  menu.value = label;
}
function fill(menu) {
  if (menu.dataset.full) return;
  menu.dataset.full = 1;
  const now = menu.value;
  menu.replaceChildren(...[...DATA.heads[menu.dataset.head].labels, ''].map((label) =>
    new Option(label || '(unknown)', label, false, label === now)));
}
// A label that was chosen by hand brings its parents along, and leaves open what no longer lies under it.
function cascade(article, head, label) {
  let below = DATA.heads[head], value = label;
  while (below.parent && value) {
    const line = change(article, below.parent), parent = DATA.heads[below.parent];
    value = parent.labels[below.parent_of[below.labels.indexOf(value)]];
    if (line) set(line, value);
    below = parent;
  }
  for (const [name, child] of Object.entries(DATA.heads).filter(([, other]) => other.parent === head)) {
    const line = change(article, name), own = line && answer(line);
    if (!own) continue;
    const under = DATA.heads[head].labels[child.parent_of[child.labels.indexOf(own)]];
    if (under !== label) { set(line, ''); cascade(article, name, ''); }
  }
}
function remember(article) {
  const changed = find('.change', article).filter((line) => answer(line) !== line.dataset.to);
  const answers = Object.fromEntries(changed.map((line) => [line.dataset.head, answer(line)]));
  kept[article.id] = { ticked: box(article).checked, answers };
  try { localStorage.setItem(KEY, JSON.stringify(kept)); } catch (error) { /* the page works without */ }
}
const shown = () => articles.filter((article) => !article.hidden);
const ticked = () => articles.filter((article) => box(article).checked);
function count() {
  for (const article of articles) article.classList.toggle('ticked', box(article).checked);
  const [seen, chosen, all] = [shown(), ticked(), articles].map((list) => list.length.toLocaleString());
  one('#count').textContent = `${seen} shown, ${chosen} of ${all} rows ticked`;
  one('#save').disabled = !ticked().length;
}
function filter() {
  const [head, given, suggested, only] = ['#head', '#given', '#suggested', '#only'].map((id) => one(id).value);
  const words = one('#words').value.trim().toLowerCase();
  for (const article of articles) {
    const fits = find('.change:not(.keep)', article).some((line) => (!head || line.dataset.head === head) &&
      (!given || line.dataset.from === given) && (!suggested || [answer(line), line.dataset.to].includes(suggested)));
    article.hidden = !(fits && (!words || article.textContent.toLowerCase().includes(words)) &&
      (!only || (only === 'ticked') === box(article).checked));
  }
  count();
}
function classes() {
  const head = one('#head').value;
  for (const [id, key] of [['#given', 'from'], ['#suggested', 'to']]) {
    const menu = one(id), now = menu.value, counts = new Map();
    for (const line of find('.change:not(.keep)')) {
      if (!head || line.dataset.head === head) counts.set(line.dataset[key], (counts.get(line.dataset[key]) || 0) + 1);
    }
    const sorted = [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
    menu.replaceChildren(new Option('any', ''), ...sorted.map(([label, n]) => new Option(`${label} (${n})`, label)));
    menu.value = counts.has(now) ? now : '';
  }
}
const quoted = (cell) => /[",\n\r]/.test(cell) ? '"' + cell.replaceAll('"', '""') + '"' : cell;
function table() {
  const rows = ticked().flatMap((article) => find('.change', article)
    .map((line) => [article.dataset.id, line.dataset.head, line.dataset.from, answer(line), line.dataset.reason])
    .filter(([, , from, to]) => from !== to));
  const lines = [['id', 'head', 'from', 'to', 'reason'], ...DATA.earlier, ...rows];
  return lines.map((row) => row.map(quoted).join(',') + '\n').join('');
}
for (const article of articles.filter((article) => kept[article.id])) {
  box(article).checked = kept[article.id].ticked;
  for (const [head, label] of Object.entries(kept[article.id].answers)) {
    const line = change(article, head);
    if (line && one('select', line)) set(line, label);
  }
}
for (const kind of ['focusin', 'pointerdown']) {
  document.addEventListener(kind, (event) => { if (event.target.matches('.change select')) fill(event.target); });
}
document.addEventListener('change', (event) => {
  const article = event.target.closest('article');
  if (!article) return;
  if (event.target.matches('.change select')) {
    cascade(article, event.target.dataset.head, event.target.value);
    box(article).checked = true;
  }
  remember(article);
  count();
});
one('#head').addEventListener('change', () => { classes(); filter(); });
for (const id of ['#given', '#suggested', '#only']) one(id).addEventListener('change', filter);
one('#words').addEventListener('input', filter);
for (const [id, state] of [['#all', true], ['#none', false]]) {
  one(id).addEventListener('click', () => {
    for (const article of shown()) { box(article).checked = state; remember(article); }
    count();
  });
}
one('#save').addEventListener('click', () => {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([table()], { type: 'text/csv' }));
  link.download = 'corrections.csv';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
});
document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches('input[type=search], select')) {
    if (event.key === 'Escape') event.target.blur();
    return;
  }
  if (event.key === '/') { event.preventDefault(); one('#words').focus(); return; }
  const step = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[event.key];
  if (!step) return;
  const list = shown(), place = list.indexOf(document.activeElement.closest('article'));
  const next = list[place < 0 ? 0 : place + step];
  if (next) { event.preventDefault(); box(next).focus(); next.scrollIntoView({ block: 'nearest' }); }
});
classes();
filter();
