// The page: what it shows is said by the fragment of its address, so that a view can be kept and sent on.

const NOTHING = { q: '', outcome: '', rule: '', reason: '', sort: 'row', desc: false, row: 0 };
let state = { ...NOTHING };
const at = (id) => document.getElementById(id);

function stateOf(fragment) {
  const said = new URLSearchParams(fragment.replace(/^#/, ''));
  const text = (name) => said.get(name) ?? NOTHING[name];
  const row = Number(text('row'));
  return {
    q: text('q'),
    outcome: OUTCOMES.has(text('outcome')) ? text('outcome') : '',
    rule: text('rule'),
    reason: text('reason'),
    sort: COLUMNS.some((column) => column.name === text('sort')) ? text('sort') : NOTHING.sort,
    desc: said.get('desc') === '1',
    row: Number.isInteger(row) && row > 0 && row <= rows.length ? row : 0,
  };
}

function fragmentOf(state) {
  const said = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (value !== NOTHING[name]) said.set(name, value === true ? '1' : value);
  }
  return '#' + said.toString();
}

/** Goes to another view, and into the address. */
function go(change) {
  const next = { ...state, ...change };
  const fragment = fragmentOf(next);
  try {
    history.replaceState(null, '', fragment);
  } catch {
    // An address that a browser does not let a page change is no reason to show nothing.
  }
  show(next);
}

function show(next) {
  const isOther = ['q', 'outcome', 'rule', 'reason', 'sort', 'desc'].some((name) => next[name] !== state[name]);
  const opened = next.row !== state.row ? next.row : 0;
  const closed = next.row === 0 && state.row !== 0;
  state = next;
  if (isOther) showTable();
  if (opened > 0) showDetails(opened - 1);
  if (closed && at('details').open) at('details').close();
}

function showTable() {
  const search = at('search');
  if (search.value.trim() !== state.q) search.value = state.q;
  at('outcome').value = state.outcome;
  at('rule').value = state.rule;
  at('by-reason').hidden = state.reason === '';
  put(at('by-reason').querySelector('q'), state.reason);
  const view = select(state);
  table.show(view, state);
  const isAll = view.length === rows.length;
  at('status').textContent = isAll ? files(rows.length) : `${count(view.length)} of ${files(rows.length)}`;
}

/** All of one file. */
function showDetails(index) {
  const row = rows[index];
  const dialog = at('details');
  put(dialog.querySelector('h2'), row[C.path]);
  const list = dialog.querySelector('dl');
  list.replaceChildren();
  const add = (name, value) => {
    list.append(make('dt', '', name));
    const element = make('dd');
    if (value instanceof Node) element.append(value);
    else put(element, value);
    list.append(element);
  };
  const names = {
    outcome: 'Outcome', reason: 'Reason', file_id: 'File ID', rule: 'Rule', dataset_id: 'Dataset',
    returned_dataset: 'Dataset as returned', organization_id: 'Organization', remote_name: 'Sent as',
    returned_name: 'Name as returned', size: 'Size', content_type: 'Content type', blake3: 'BLAKE3',
    attempts: 'Attempts', http_status: 'HTTP status', request_id: 'Request ID', started: 'Began (UTC)',
    finished: 'Ended (UTC)',
  };
  for (const [column, name] of Object.entries(names)) {
    const value = row[C[column]];
    if (value === null) continue;
    if (column === 'outcome') add(name, make('span', `outcome ${value}`, OUTCOMES.get(value)));
    else if (column === 'size') add(name, `${bytes(value)} (${count(value)} bytes)`);
    else if (column === 'started' || column === 'finished') add(name, time(value));
    else add(name, String(value));
  }
  if (!Number.isNaN(byTook[index])) add('Took', duration(byTook[index]));
  const metadata = Object.entries(row[C.metadata] ?? {});
  if (metadata.length > 0) {
    const inner = make('table');
    for (const [key, value] of metadata) {
      const line = inner.insertRow();
      const name = makeOf('th', key);
      name.scope = 'row';
      line.append(name, makeOf('td', value));
    }
    add('Metadata', inner);
  }
  if (!dialog.open) dialog.showModal();
}

function options(id, values) {
  for (const [value, label, number] of values) {
    const option = makeOf('option', `${label} (${count(number)})`);
    option.value = value;
    at(id).append(option);
  }
}

function counted(place) {
  const counts = new Map();
  for (const row of rows) counts.set(row[place], (counts.get(row[place]) ?? 0) + 1);
  return counts;
}

function later(action, ms) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(action, ms);
  };
}

const table = new Table();

function begin() {
  const outcomes = counted(C.outcome);
  options('outcome', [...OUTCOMES].filter(([word]) => outcomes.has(word)).map(([word, label]) => [word, label, outcomes.get(word)]));
  options('rule', [...counted(C.rule)].map(([rule, number]) => [rule, rule, number]));
  at('search').addEventListener('input', later(() => go({ q: at('search').value.trim() }), 120));
  at('outcome').addEventListener('change', () => go({ outcome: at('outcome').value }));
  at('rule').addEventListener('change', () => go({ rule: at('rule').value }));
  const form = document.querySelector('.filters');
  form.addEventListener('submit', (event) => event.preventDefault());
  form.addEventListener('reset', () => go({ ...NOTHING }));
  at('by-reason').querySelector('button').addEventListener('click', () => go({ reason: '' }));
  at('details').addEventListener('close', () => {
    if (state.row !== 0) go({ row: 0 });
  });
  document.querySelector('.skip').addEventListener('click', (event) => {
    event.preventDefault();
    at('files').scrollIntoView();
    at('search').focus();
  });
  addEventListener('hashchange', () => {
    show(stateOf(location.hash));
    if (state.row === 0) at('files').scrollIntoView();
  });
  for (const part of [targets, reasons, timeline, latency, sizes, slowest]) part();
  at('files').hidden = rows.length === 0;
  state = stateOf(location.hash);
  showTable();
  if (state.row > 0) showDetails(state.row - 1);
}

begin();
