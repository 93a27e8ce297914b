// The audit page's script: filters, menus that keep the hierarchy, keys, and corrections.csv made in the page.
'use strict';
const DATA = JSON.parse(document.getElementById('data').textContent);
const find = (selector, from = document) => [...from.querySelectorAll(selector)];
const one = (selector) => document.querySelector(selector);
const articles = find('article');
const KEY = 'hfk-audit-' + DATA.key;
let kept = {};
try { kept = JSON.parse(localStorage.getItem(KEY) || '{}'); } catch (error) { /* storage may be closed to files */ }

function change(article, head) { return find('.change', article).find((line) => line.dataset.head === head); }
function answer(line) {
  const menu = line.querySelector('select');
  return menu ? menu.value : line.dataset.to;
}
function set(line, label) {
  const menu = line.querySelector('select');
  if (![...menu.options].some((option) => option.value === label)) fill(menu);
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
    const parent = DATA.heads[below.parent], line = change(article, below.parent);
    value = parent.labels[below.parent_of[below.labels.indexOf(value)]];
    if (line) set(line, value);
    below = parent;
  }
  const children = Object.keys(DATA.heads).filter((other) => DATA.heads[other].parent === head);
  for (const child of children) {
    const line = change(article, child), head_ = DATA.heads[child];
    if (!line) continue;
    const own = answer(line), under = own && DATA.heads[head].labels[head_.parent_of[head_.labels.indexOf(own)]];
    const next = !label || (own && under !== label) ? '' : own;
    if (next !== own) { set(line, next); cascade(article, child, next); }
  }
}
function lines(article) {
  return find('.change', article)
    .map((line) => [article.dataset.id, line.dataset.head, line.dataset.from, answer(line), line.dataset.reason])
    .filter((line) => line[2] !== line[3]);
}
function box(article) { return article.querySelector('input[type=checkbox]'); }
function remember(article) {
  const answers = {};
  for (const line of find('.change', article)) {
    if (answer(line) !== line.dataset.to) answers[line.dataset.head] = answer(line);
  }
  kept[article.id] = { ticked: box(article).checked, answers };
  try { localStorage.setItem(KEY, JSON.stringify(kept)); } catch (error) { /* the page works without */ }
}
function shown() { return articles.filter((article) => !article.hidden); }
function count() {
  const ticked = articles.filter((article) => box(article) && box(article).checked);
  for (const article of articles) article.classList.toggle('ticked', Boolean(box(article)) && box(article).checked);
  one('#count').textContent =
    `${shown().length.toLocaleString()} shown, ${ticked.length.toLocaleString()} of ${articles.length.toLocaleString()} rows ticked`;
  one('#save').disabled = !ticked.length;
}
function filter() {
  const head = one('#head').value, given = one('#given').value, suggested = one('#suggested').value;
  const words = one('#words').value.trim().toLowerCase(), only = one('#only').value;
  for (const article of articles) {
    const there = find('.change:not(.keep)', article);
    const fits = there.some((line) => (!head || line.dataset.head === head) &&
      (!given || line.dataset.from === given) && (!suggested || answer(line) === suggested || line.dataset.to === suggested));
    const ticked = Boolean(box(article)) && box(article).checked;
    article.hidden = !(fits && (!words || article.textContent.toLowerCase().includes(words)) &&
      (!only || (only === 'ticked') === ticked));
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
function csv(cell) { return /[",\n\r]/.test(cell) ? '"' + cell.replaceAll('"', '""') + '"' : cell; }
function table() {
  const rows = articles.filter((article) => box(article) && box(article).checked).flatMap(lines);
  return [['id', 'head', 'from', 'to', 'reason'], ...DATA.earlier, ...rows].map((row) => row.map(csv).join(',')).join('\n') + '\n';
}
for (const article of articles) {
  const before = kept[article.id];
  if (before && box(article)) {
    box(article).checked = before.ticked;
    for (const [head, label] of Object.entries(before.answers)) {
      const line = change(article, head);
      if (line && line.querySelector('select')) set(line, label);
    }
  }
}
document.addEventListener('focusin', (event) => { if (event.target.matches('.change select')) fill(event.target); });
document.addEventListener('pointerdown', (event) => { if (event.target.matches('.change select')) fill(event.target); });
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
    for (const article of shown()) if (box(article)) { box(article).checked = state; remember(article); }
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
  const list = shown().filter(box);
  const place = list.indexOf(document.activeElement.closest('article'));
  const next = list[place < 0 ? 0 : place + step];
  if (next) { event.preventDefault(); box(next).focus(); next.scrollIntoView({ block: 'nearest' }); }
});
classes();
filter();
