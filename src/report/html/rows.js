'use strict';
// The rows, and how what they hold is shown.

const told = JSON.parse(document.getElementById('told').textContent);
const header = told.header;
const OUTCOMES = new Map(told.outcomes);

/** The place of each column in a row. */
const C = Object.fromEntries(told.columns.map((name, place) => [name, place]));

/** Reads the rows. A number where a text or an object belongs says that it is the one of the row above. */
function readRows() {
  const numbers = new Set([C.size, C.attempts, C.http_status]);
  const texts = told.columns.map((_, place) => place).filter((place) => !numbers.has(place));
  const above = told.columns.map(() => null);
  const rows = [];
  for (const chunk of document.querySelectorAll('script.rows')) {
    for (const row of JSON.parse(chunk.textContent)) {
      for (const place of texts) {
        if (row[place] === 0) row[place] = above[place];
        else if (row[place] !== null) above[place] = row[place];
      }
      rows.push(row);
    }
  }
  return rows;
}

const rows = readRows();

/** Milliseconds from the first attempt's begin to the last one's end; NaN where there was none. */
function took(row) {
  if (row[C.started] === null || row[C.finished] === null) return NaN;
  return Math.max(0, Date.parse(row[C.finished]) - Date.parse(row[C.started]));
}

// What looks like nothing, or would change the order of what stands beside it.
const UNSEEN = /[\p{C}\p{Zl}\p{Zp}]|(?! )\p{Zs}/u;

/** Puts a text from outside into an element: as a text, with what cannot be seen named. */
function put(element, text) {
  if (!UNSEEN.test(text)) {
    element.textContent = text;
    return element;
  }
  element.textContent = '';
  let seen = '';
  const flush = () => {
    if (seen !== '') element.append(seen);
    seen = '';
  };
  for (const c of text) {
    if (UNSEEN.test(c)) {
      flush();
      const code = c.codePointAt(0).toString(16).toUpperCase().padStart(4, '0');
      element.append(make('span', 'unseen', 'U+' + code));
    } else {
      seen += c;
    }
  }
  flush();
  return element;
}

/** An element with a class and our own text. */
function make(name, classes = '', text = '') {
  const element = document.createElement(name);
  if (classes !== '') element.className = classes;
  if (text !== '') element.textContent = text;
  return element;
}

/** An element with a text from outside. */
function makeOf(name, text, classes = '') {
  return put(make(name, classes), text);
}

function count(number) {
  return number.toLocaleString('en-US');
}

function files(number) {
  return count(number) + (number === 1 ? ' file' : ' files');
}

function bytes(number) {
  if (number < 1024) return `${Math.round(number)} B`;
  let unit = -1;
  do {
    number /= 1024;
    unit += 1;
  } while (number >= 1023.95 && unit < 5);
  return `${number.toFixed(1)} ${['KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'][unit]}`;
}

function duration(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 60) return `${minutes} min ${Math.floor(ms / 1000) % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** A time of the report's, for people. */
function time(text) {
  return text.replace('T', ' ').replace(/Z$/, '');
}

/** A time on an axis, as fine as its steps. */
function timeOfDay(ms, step) {
  const text = new Date(ms).toISOString();
  if (step >= 86_400_000) return text.slice(0, 10);
  return step < 1000 ? text.slice(11, 23) : text.slice(11, 19);
}

/** A reason without what differs from file to file, so that like ones meet. */
function gist(row) {
  let text = row[C.reason];
  for (const own of [row[C.path], row[C.remote_name], row[C.returned_name], row[C.file_id], row[C.request_id]]) {
    if (own !== null && own.length > 2) text = text.split(own).join('…');
  }
  return text
    .replace(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/gi, '…')
    .replace(/\b[0-9a-f]{16,}\b/gi, '…')
    .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, '…')
    .replace(/(?<![\w.-]|HTTP |os error )\d+(\.\d+)?/g, '…')
    .replace(/…(\s*…)+/g, '…');
}
