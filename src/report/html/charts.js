// What the rows come to: charts, each with a table of the same, and the lists beside them.

const SVG = 'http://www.w3.org/2000/svg';

function svg(name, attributes = {}, text = '') {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== '') element.textContent = text;
  return element;
}

/** A table of our own words and numbers, folded away. */
function asTable(heads, lines) {
  const folded = make('details');
  folded.append(make('summary', '', 'As a table'));
  const table = make('table');
  const top = table.createTHead().insertRow();
  heads.forEach((head, place) => {
    const cell = make('th', place > 0 ? 'number' : '', head);
    cell.scope = 'col';
    top.append(cell);
  });
  const body = table.createTBody();
  for (const [first, ...others] of lines) {
    const line = body.insertRow();
    const name = make('th', '', first);
    name.scope = 'row';
    line.append(name, ...others.map((text) => make('td', 'number', text)));
  }
  folded.append(table);
  return folded;
}

/**
 * Draws one lane of bars above the other, over one axis. A lane has a title, values for each place of
 * the axis (several are stacked, each with a class), and a way to say a value. `spans` are stretches
 * of the axis that are shaded.
 */
function draw(box, { said, lanes, ticks, places, spans = [] }) {
  const width = Math.max(260, box.clientWidth || 680);
  const [left, high, gap, below] = [4, 84, 30, 22];
  const height = lanes.length * (high + gap) + below;
  const picture = svg('svg', { role: 'img', 'aria-label': said, viewBox: `0 0 ${width} ${height}`, width, height });
  const step = (width - 2 * left) / places;
  lanes.forEach((lane, number) => {
    const base = (number + 1) * (high + gap);
    const sums = lane.parts[0].values.map((_, place) => lane.parts.reduce((sum, part) => sum + part.values[place], 0));
    const most = Math.max(...sums);
    for (const { from, to } of spans) {
      picture.append(svg('rect', { class: 'pause', x: left + from * step, y: base - high, width: Math.max(2, (to - from) * step), height: high }));
    }
    picture.append(svg('text', { class: 'title', x: left, y: base - high - 8 }, `${lane.title}, at most ${lane.say(most)}`));
    picture.append(svg('line', { class: 'axis', x1: left, x2: width - left, y1: base, y2: base }));
    for (let place = 0; place < places; place += 1) {
      let y = base;
      for (const part of lane.parts) {
        if (part.values[place] === 0) continue;
        // What is there can be seen, however little.
        const bar = Math.max(1.5, (part.values[place] / most) * high);
        y -= bar;
        const rect = svg('rect', { class: part.kind, x: left + place * step, y, width: Math.max(1, step - (step > 4 ? 1 : 0)), height: bar });
        rect.append(svg('title', {}, `${lane.name(place)}: ${lane.say(part.values[place])}`));
        picture.append(rect);
      }
    }
  });
  const axis = height - below + 15;
  let free = -Infinity;
  for (const { place, text } of ticks) {
    const x = left + place * step;
    const wide = text.length * 7;
    if (x < free || x + wide > width) continue;
    picture.append(svg('line', { class: 'axis', x1: x, x2: x, y1: height - below, y2: height - below + 4 }));
    picture.append(svg('text', { x: x + 2, y: axis }, text));
    free = x + wide + 12;
  }
  box.replaceChildren(picture);
}

/** Draws a chart whenever there is another width for it. */
function chart(box, what) {
  const again = () => draw(box, what());
  let width = -1;
  new ResizeObserver(() => {
    if (Math.abs(box.clientWidth - width) < 2) return;
    width = box.clientWidth;
    again();
  }).observe(box);
  again();
}

/** A section's part for a chart, which is shown. */
function section(id, note) {
  const found = document.getElementById(id);
  found.hidden = false;
  found.querySelector('.note').textContent = note;
  const [charts, box] = [found.querySelector('.charts'), make('div')];
  charts.append(box);
  return { charts, box };
}

const STEPS = [10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000,
  600_000, 900_000, 1_800_000, 3_600_000, 7_200_000, 14_400_000, 43_200_000, 86_400_000];

/** What happened when, of one run. */
function timeline() {
  const sent = rows.filter((row) => row[C.started] !== null && row[C.finished] !== null);
  if (header.run_id === null || header.started === null || sent.length === 0) return;
  const begin = Date.parse(header.started);
  let end = header.finished === null ? begin : Date.parse(header.finished);
  for (const row of sent) end = Math.max(end, Date.parse(row[C.finished]));
  const span = Math.max(1, end - begin);
  const step = STEPS.find((step) => span / step <= 90) ?? Math.ceil(span / 90 / 86_400_000) * 86_400_000;
  const first = Math.floor(begin / step) * step;
  const places = Math.max(1, Math.ceil((end - first + 1) / step));
  const none = () => new Array(places).fill(0);
  const [stored, done, failed, again] = [none(), none(), none(), none()];
  const placeOf = (ms) => Math.min(places - 1, Math.max(0, Math.floor((ms - first) / step)));
  for (const row of sent) {
    const [from, to] = [Date.parse(row[C.started]), Date.parse(row[C.finished])];
    const last = placeOf(to);
    if (row[C.outcome] === 'stored') {
      done[last] += 1;
      spread(stored, placeOf(from), last, row[C.size] ?? 0, { from: (from - first) / step, to: (to - first) / step });
    } else {
      failed[last] += 1;
    }
    if (row[C.attempts] > 1) again[last] += row[C.attempts] - 1;
  }
  const pauses = told.pauses ?? [];
  const spans = pauses.map((pause) => ({
    from: Math.max(0, (Date.parse(pause.began) - first) / step),
    to: Math.min(places, (Date.parse(pause.until) - first) / step),
  })).filter(({ from, to }) => from < places && to > 0);
  const perSecond = (values) => values.map((value) => (value * 1000) / step);
  const name = (place) => timeOfDay(first + place * step, step);
  const lanes = [
    { title: 'Bytes stored a second', say: (value) => `${bytes(value)}/s`, parts: [{ kind: 'bar', values: perSecond(stored) }] },
    { title: failed.some((value) => value > 0) ? 'Files ended, stored and (above) not' : 'Files stored', say: files, parts: [{ kind: 'bar', values: done }, { kind: 'bad', values: failed }] },
  ];
  const retries = again.reduce((sum, value) => sum + value, 0);
  if (retries > 0) {
    lanes.push({ title: 'Retries, where the file they were of ended', say: count, parts: [{ kind: 'again', values: again }] });
  }
  for (const lane of lanes) lane.name = name;
  const whole = stored.reduce((sum, value) => sum + value, 0);
  const rate = `${bytes((whole * 1000) / span)}/s, ${((sent.length * 1000) / span).toFixed(1)} files/s`;
  const known = told.pauses === null ? ' When all uploads waited is not known here: only the report that the run itself wrote says so.' : '';
  const shaded = spans.length > 0 ? ' Shaded: all uploads waited.' : '';
  const note = `${rate} on average; each bar is ${duration(step)}. A file's bytes are spread evenly over the time it took.${shaded}${known}`;
  const { charts, box } = section('timeline', note);
  chart(box, () => ({
    said: `Bytes stored a second, files ended${retries > 0 ? ', retries' : ''} over time. The table below has the same.`,
    lanes, places, spans, ticks: stored.map((_, place) => ({ place, text: name(place) })),
  }));
  const lines = stored.map((value, place) => [name(place), lanes[0].say((value * 1000) / step), count(done[place]), count(failed[place]), count(again[place])]);
  charts.append(asTable(['From', 'Stored', 'Files stored', 'Files not stored', 'Retries'], lines.filter((line) => !line.slice(2).every((text) => text === '0') || line[1] !== '0 B/s')));
  if (pauses.length > 0) listPauses(pauses);
}

/** Adds a file's bytes to the bars that it took part in. */
function spread(bars, first, last, size, { from, to }) {
  if (first === last || to <= from) {
    bars[last] += size;
    return;
  }
  for (let place = first; place <= last; place += 1) {
    const [begins, ends] = [place === first ? from : place, place === last ? to : place + 1];
    bars[place] += (size * Math.max(0, ends - begins)) / (to - from);
  }
}

function listPauses(pauses) {
  const box = document.querySelector('#timeline .pauses');
  box.append(make('h3', '', 'Pauses'));
  const list = make('ul');
  for (const pause of pauses.slice(0, 20)) {
    const line = make('li', '', `${time(new Date(pause.began).toISOString())}, ${duration(Date.parse(pause.until) - Date.parse(pause.began))}: `);
    line.append(makeOf('span', pause.why));
    list.append(line);
  }
  box.append(list);
  if (pauses.length > 20) box.append(make('p', 'note', `… and ${count(pauses.length - 20)} more.`));
}

/** How many values lie between bounds: the first place is up to the first of them, the last above all. */
function histogram(id, { note, title, values, bounds, say, heads }) {
  const counts = new Array(bounds.length + 1).fill(0);
  for (const value of values) {
    const place = bounds.findIndex((bound) => value <= bound);
    counts[place === -1 ? bounds.length : place] += 1;
  }
  const from = counts.findIndex((number) => number > 0);
  const to = counts.findLastIndex((number) => number > 0) + 1;
  const shown = counts.slice(from, to);
  const name = (place) => (from + place < bounds.length ? `up to ${say(bounds[from + place])}` : `more than ${say(bounds.at(-1))}`);
  const short = (place) => (from + place < bounds.length ? `≤ ${say(bounds[from + place])}` : `> ${say(bounds.at(-1))}`);
  const { charts, box } = section(id, note);
  const lane = { title, say: files, name, parts: [{ kind: 'bar', values: shown }] };
  chart(box, () => ({
    said: `${title}. ${note} The table below has the same.`,
    lanes: [lane], places: shown.length, ticks: shown.map((_, place) => ({ place, text: short(place) })),
  }));
  charts.append(asTable(heads, shown.map((number, place) => [name(place), count(number)])));
}

function latency() {
  const values = byTook.filter((ms) => !Number.isNaN(ms)).sort((a, b) => a - b);
  if (values.length === 0) return;
  const at = (part) => duration(values[Math.min(values.length - 1, Math.floor(values.length * part))]);
  const bounds = [];
  for (let power = 1; power <= 10_000_000; power *= 10) bounds.push(power, 2 * power, 5 * power);
  histogram('latency', {
    note: `From its first attempt to its last one's end, waits between them included. Half: up to ${at(0.5)}; 95%: ${at(0.95)}; 99%: ${at(0.99)}; the slowest: ${at(1)}.`,
    title: 'Files by time', values, bounds, say: (bound) => duration(bound).replace(/\.0+ /, ' '), heads: ['Time', 'Files'],
  });
}

function sizes() {
  const values = rows.map((row) => row[C.size]).filter((size) => size !== null);
  if (values.length === 0) return;
  const whole = values.reduce((sum, size) => sum + size, 0);
  const largest = values.reduce((most, size) => Math.max(most, size), 0);
  const bounds = [0];
  for (let bound = 1024; bound <= 2 ** 40; bound *= 4) bounds.push(bound);
  histogram('sizes', {
    note: `${bytes(whole)} in all, ${bytes(whole / values.length)} on average, ${bytes(largest)} the largest.`,
    title: 'Files by size', values, bounds, say: (bound) => bytes(bound).replace('.0 ', ' '), heads: ['Size', 'Files'],
  });
}

/** A link to a view of this page. */
function link(fragment, text) {
  const element = makeOf('a', text);
  element.href = fragment;
  return element;
}

function slowest() {
  const MOST = 10;
  const found = [];
  byTook.forEach((ms, index) => {
    if (Number.isNaN(ms) || (found.length === MOST && ms <= byTook[found[MOST - 1]])) return;
    found.push(index);
    found.sort((a, b) => byTook[b] - byTook[a] || a - b);
    found.length = Math.min(found.length, MOST);
  });
  if (found.length === 0) return;
  const body = document.querySelector('#slowest tbody');
  for (const index of found) {
    const row = rows[index];
    const line = body.insertRow();
    line.append(make('td', 'number', duration(byTook[index])), make('td', 'number', row[C.attempts] === null ? '' : count(row[C.attempts])));
    line.append(make('td', 'number', row[C.size] === null ? '' : bytes(row[C.size])));
    const name = make('th');
    name.scope = 'row';
    name.append(link(fragmentOf({ ...NOTHING, row: index + 1 }), row[C.path]));
    line.append(name);
  }
  document.getElementById('slowest').hidden = false;
}

function reasons() {
  const MOST = 20;
  const groups = new Map();
  rows.forEach((row, index) => {
    if (row[C.reason] === null || row[C.outcome] === 'skipped') return;
    const reason = gist(row);
    const key = `${row[C.outcome]} ${reason}`;
    const group = groups.get(key) ?? { reason, outcome: row[C.outcome], number: 0, example: index };
    group.number += 1;
    groups.set(key, group);
  });
  if (groups.size === 0) return;
  const found = document.getElementById('reasons');
  const sorted = [...groups.values()].sort((a, b) => b.number - a.number);
  for (const { reason, outcome, number, example } of sorted.slice(0, MOST)) {
    const line = found.querySelector('tbody').insertRow();
    line.append(make('td', 'number', count(number)));
    const word = make('td');
    word.append(make('span', `outcome ${outcome}`, OUTCOMES.get(outcome)));
    const name = make('th');
    name.scope = 'row';
    name.append(link(fragmentOf({ ...NOTHING, outcome, reason }), reason));
    const file = make('td');
    file.append(link(fragmentOf({ ...NOTHING, outcome, reason, row: example + 1 }), rows[example][C.path]));
    line.append(word, name, file);
  }
  if (sorted.length > MOST) found.querySelector('.more').textContent = `… and ${count(sorted.length - MOST)} more reasons.`;
  found.hidden = false;
}

function targets() {
  const groups = new Map();
  for (const row of rows) {
    const key = JSON.stringify([row[C.dataset_id], row[C.organization_id]]);
    const group = groups.get(key) ?? { row, name: null, number: 0 };
    group.name ??= row[C.returned_dataset];
    group.number += 1;
    groups.set(key, group);
  }
  if (groups.size === 0) return;
  const found = document.getElementById('targets');
  for (const { row, name, number } of groups.values()) {
    const line = found.querySelector('tbody').insertRow();
    const dataset = make('th');
    dataset.scope = 'row';
    dataset.append(row[C.dataset_id] === null ? 'the default dataset' : makeOf('span', row[C.dataset_id], 'code'));
    if (name !== null) dataset.append(make('br'), makeOf('span', name));
    line.append(dataset, row[C.organization_id] === null ? make('td', '', "the key's own") : makeOf('td', row[C.organization_id], 'code'), make('td', 'number', count(number)));
  }
  found.hidden = false;
}
