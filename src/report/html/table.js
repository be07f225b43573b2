// The table of all files: filtered, sorted, and drawn where it is looked at.

const held = (place) => (row) => row[place];
const byTook = rows.map(took);

/** What the table shows of a file. `key` is what it is sorted by, `fill` puts it into a cell. */
const COLUMNS = [
  { name: 'row', title: '#', kind: 'number', key: (_, index) => index, fill: (cell, _, index) => put(cell, count(index + 1)) },
  { name: 'outcome', title: 'Outcome', key: held(C.outcome), fill: fillOutcome },
  { name: 'path', title: 'Path', key: held(C.path), fill: fillPath },
  { name: 'size', title: 'Size', kind: 'number', key: held(C.size), fill: filled(C.size, bytes) },
  { name: 'took', title: 'Took', kind: 'number', key: (_, index) => byTook[index], fill: fillTook },
  { name: 'attempts', title: 'Attempts', kind: 'number', key: held(C.attempts), fill: filled(C.attempts, count) },
  { name: 'file_id', title: 'File ID', key: held(C.file_id), fill: filled(C.file_id, String, 'code') },
  { name: 'reason', title: 'Reason', key: held(C.reason), fill: filled(C.reason, String) },
  { name: 'rule', title: 'Rule', key: held(C.rule), fill: filled(C.rule, String) },
  { name: 'finished', title: 'Ended', key: held(C.finished), fill: filled(C.finished, time) },
];

function filled(place, shown, classes = '') {
  return (cell, row) => {
    if (row[place] === null) return;
    if (classes !== '') cell.classList.add(classes);
    const text = shown(row[place]);
    put(cell, text);
    cell.title = text;
  };
}

function fillOutcome(cell, row) {
  cell.append(make('span', `outcome ${row[C.outcome]}`, OUTCOMES.get(row[C.outcome])));
}

function fillTook(cell, _, index) {
  if (!Number.isNaN(byTook[index])) put(cell, duration(byTook[index]));
}

function fillPath(cell, row, index) {
  const button = makeOf('button', row[C.path], 'path');
  button.type = 'button';
  button.tabIndex = -1;
  button.title = row[C.path];
  button.addEventListener('click', () => go({ row: index + 1 }));
  cell.append(button);
}

/** What of a row a search looks at. */
const searched = [C.path, C.remote_name, C.file_id, C.reason, C.request_id, C.blake3, C.returned_name, C.dataset_id, C.content_type];

function matches(row, words) {
  return words.every((word) => {
    const has = (text) => text !== null && text.toLowerCase().includes(word);
    if (searched.some((place) => has(row[place]))) return true;
    const metadata = row[C.metadata];
    return metadata !== null && Object.entries(metadata).some(([key, value]) => has(key) || has(value));
  });
}

/** The places of the rows that a state shows, in its order. */
function select(state) {
  const words = state.q.toLowerCase().split(/\s+/).filter((word) => word !== '');
  let view = [];
  for (let index = 0; index < rows.length; index += 1) {
    const row = rows[index];
    if (state.outcome !== '' && row[C.outcome] !== state.outcome) continue;
    if (state.rule !== '' && row[C.rule] !== state.rule) continue;
    if (state.reason !== '' && (row[C.reason] === null || gist(row) !== state.reason)) continue;
    if (words.length > 0 && !matches(row, words)) continue;
    view.push(index);
  }
  const column = COLUMNS.find((column) => column.name === state.sort);
  if (column !== undefined && column.name !== 'row') {
    const keys = rows.map(column.key);
    const isNone = (key) => key === null || Number.isNaN(key);
    // What has no value comes last, whatever the direction; what has the same stays in the plan's order.
    const sign = state.desc ? -1 : 1;
    view.sort((a, b) => {
      const [x, y] = [keys[a], keys[b]];
      if (isNone(x) || isNone(y)) return isNone(x) - isNone(y) || a - b;
      if (x === y) return a - b;
      return x < y ? -sign : sign;
    });
  } else if (state.desc) {
    view.reverse();
  }
  return view;
}

/** Draws only the rows that can be seen, and some around them. */
class Table {
  // Browsers draw no element that is higher than some millions of pixels.
  static HIGHEST = 8_000_000;
  static AROUND = 16;
  static PRINTED = 200;

  constructor() {
    this.table = document.getElementById('table');
    this.body = this.table.tBodies[0];
    this.scroller = this.table.parentElement;
    this.view = [];
    this.active = 0;
    this.drawn = '';
    this.height = 32;
    this.heads = COLUMNS.map((column) => this.head(column));
    this.scroller.addEventListener('scroll', () => this.draw(), { passive: true });
    this.scroller.addEventListener('keydown', (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.scroller);
    addEventListener('beforeprint', () => this.print());
    addEventListener('afterprint', () => this.redraw());
  }

  head(column) {
    const cell = make('th', column.kind ?? '');
    cell.dataset.column = column.name;
    cell.scope = 'col';
    const button = make('button', '', column.title);
    button.type = 'button';
    if (column.name === 'row') button.setAttribute('aria-label', 'Order of the plan');
    button.addEventListener('click', () => {
      const isSame = state.sort === column.name;
      go({ sort: column.name, desc: isSame ? !state.desc : column.kind === 'number' && column.name !== 'row' });
    });
    cell.append(button);
    this.table.tHead.rows[0].append(cell);
    return cell;
  }

  show(view, state) {
    this.view = view;
    this.active = 0;
    this.table.setAttribute('aria-rowcount', view.length + 1);
    this.table.tHead.rows[0].setAttribute('aria-rowindex', 1);
    COLUMNS.forEach((column, place) => {
      const order = state.desc ? 'descending' : 'ascending';
      this.heads[place].setAttribute('aria-sort', column.name === state.sort ? order : 'none');
    });
    this.scroller.scrollTop = 0;
    this.redraw();
  }

  redraw() {
    this.drawn = '';
    this.draw();
    const first = this.body.querySelector('tr[aria-rowindex]');
    if (first !== null && first.offsetHeight > 0 && first.offsetHeight !== this.height) {
      this.height = first.offsetHeight;
      this.drawn = '';
      this.draw();
    }
  }

  /** Where the rows begin that can be seen, and how far down they are to be drawn. */
  seen() {
    const [all, fits] = [this.view.length, Math.ceil(this.scroller.clientHeight / this.height)];
    const whole = all * this.height;
    const top = this.scroller.scrollTop;
    if (whole <= Table.HIGHEST) {
      return { fits, whole, first: Math.floor(top / this.height), offset: (first) => first * this.height };
    }
    const scrolled = top / Math.max(1, this.scroller.scrollHeight - this.scroller.clientHeight);
    const first = Math.floor(Math.min(1, scrolled) * Math.max(0, all - fits + 2));
    return { fits, whole: Table.HIGHEST, first, offset: (from) => Math.max(0, top - (first - from) * this.height) };
  }

  draw() {
    const { fits, whole, first, offset } = this.seen();
    const around = Table.AROUND;
    const from = Math.max(0, (Math.floor(first / around) - 1) * around);
    const to = Math.min(this.view.length, from + Math.ceil(fits / around) * around + 3 * around);
    const before = offset(from);
    const drawn = [from, to, whole > this.view.length * this.height ? 0 : before].join();
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    const hadFocus = this.body.contains(document.activeElement);
    const lines = [];
    if (before > 0) lines.push(gap(before));
    for (let place = from; place < to; place += 1) lines.push(this.line(place));
    const after = whole - before - (to - from) * this.height;
    if (after > 0) lines.push(gap(after));
    this.body.replaceChildren(...lines);
    if (hadFocus) (this.button(this.active) ?? this.scroller).focus({ preventScroll: true });
  }

  line(place) {
    const index = this.view[place];
    const line = make('tr');
    line.setAttribute('aria-rowindex', place + 2);
    for (const column of COLUMNS) {
      const isName = column.name === 'path';
      const cell = make(isName ? 'th' : 'td', column.kind ?? '');
      cell.dataset.column = column.name;
      if (isName) cell.scope = 'row';
      column.fill(cell, rows[index], index);
      line.append(cell);
    }
    if (place === this.active) line.querySelector('button').tabIndex = 0;
    return line;
  }

  button(place) {
    return this.body.querySelector(`tr[aria-rowindex="${place + 2}"] button`);
  }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || !this.body.contains(event.target)) return;
    const page = Math.max(1, this.seen().fits - 3);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    const step = steps[event.key];
    if (step === undefined) return;
    event.preventDefault();
    this.move(Math.min(this.view.length - 1, Math.max(0, this.active + step)));
  }

  move(place) {
    const old = this.button(this.active);
    if (old !== null) old.tabIndex = -1;
    this.active = place;
    const top = this.scroller.scrollTop;
    const seen = this.scroller.clientHeight - 2 * this.height;
    const factor = Math.min(1, Table.HIGHEST / (this.view.length * this.height));
    const at = place * this.height * factor;
    if (at < top) this.scroller.scrollTop = at;
    else if (at > top + seen - this.height) this.scroller.scrollTop = at - seen + this.height;
    this.draw();
    const button = this.button(place);
    if (button === null) return;
    button.tabIndex = 0;
    button.focus({ preventScroll: true });
  }

  print() {
    const lines = [];
    for (let place = 0; place < Math.min(Table.PRINTED, this.view.length); place += 1) lines.push(this.line(place));
    this.body.replaceChildren(...lines);
    this.drawn = '';
    const rest = this.view.length > lines.length;
    document.querySelector('.printed').textContent = rest
      ? `These are the first ${count(lines.length)} of ${files(this.view.length)}. The report in CSV has all of them.`
      : '';
  }
}

function gap(height) {
  const line = make('tr', 'gap');
  line.setAttribute('aria-hidden', 'true');
  const cell = make('td');
  cell.colSpan = COLUMNS.length;
  cell.style.height = `${height}px`;
  line.append(cell);
  return line;
}
