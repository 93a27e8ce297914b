// Every page's script: two languages, tables that sort, and what a link leads to is unfolded. Without it the page is whole.
'use strict';
{
  const root = document.documentElement, button = document.getElementById('language');
  const speak = (language) => {
    root.dataset.lang = root.lang = language;
    button.textContent = language === 'ko' ? 'English' : '한국어';
  };
  button.hidden = !document.querySelector('.t');
  button.addEventListener('click', () => speak(root.lang === 'ko' ? 'en' : 'ko'));
  if (!button.hidden && navigator.language.startsWith('ko')) speak('ko');

  const value = (row, column) => {
    const cell = row.cells[column], said = (cell.firstChild?.textContent ?? '').trim();
    const number = parseFloat(said.replaceAll(',', '').replace('−', '-'));
    return cell.classList.contains('text') || Number.isNaN(number) ? said : number;
  };
  const compare = (a, b) => typeof a === 'number' && typeof b === 'number' ? a - b : String(a).localeCompare(String(b), 'ko');
  const sort = (head) => {
    const body = head.closest('table').tBodies[0], down = head.ariaSort !== 'descending';
    for (const other of head.parentNode.cells) other.ariaSort = null;
    head.ariaSort = down ? 'descending' : 'ascending';
    const rows = [...body.rows].sort((a, b) => compare(value(a, head.cellIndex), value(b, head.cellIndex)));
    body.append(...(down ? rows.reverse() : rows));
  };
  for (const head of document.querySelectorAll('thead th')) {
    if (!head.textContent || head.closest('table').tBodies[0].rows.length < 3) continue;
    head.tabIndex = 0;
    head.classList.add('sorts');
    head.addEventListener('click', () => sort(head));
    head.addEventListener('keydown', (event) => { if (event.key === 'Enter') sort(head); });
  }

  const unfold = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let node = target; node; node = node.parentElement) if (node.tagName === 'DETAILS') node.open = true;
    if (target) target.scrollIntoView();
  };
  addEventListener('hashchange', unfold);
  unfold();
}
