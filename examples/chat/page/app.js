'use strict';

const STAGE = '/dev'; // of the WebSocket API
const ROOMS = ['hall', 'garden', 'library'];
const KEEP = 500; // messages of a room
const PATIENCE = 8000; // with a server that does not answer
const TRIES = 3; // of a message

const $ = (id) => document.getElementById(id);

// element makes one; all text goes in as text, never as HTML.
function element(tag, className, text) {
  const e = document.createElement(tag);
  if (className) e.className = className;
  if (text !== undefined) e.textContent = text;
  return e;
}

// Refused is an error that no repetition helps against.
class Refused extends Error {}

let credentials = null; // an async function that returns what the query says of us
let field = $('name'); // where we have logged in
let me = ''; // as the server knows us
let room = ROOMS[0]; // that we want to be in
let here = ''; // that the server says we are in; none: not yet
const rooms = new Map(); // messages by room

// --- Connection ------------------------------------------------------------

let socket = null;
let turn = 0; // of connecting; what belongs to an older one does not count
let welcome = false; // we were in a room since we have logged in
let attempt = 0; // since the last time that we were in a room
let refusals = 0; // in a row
let timer = 0;

async function connect() {
  const mine = ++turn;
  clearTimeout(timer);
  setState(welcome ? 'lost' : 'connecting');
  let query;
  try {
    query = await credentials();
  } catch (error) {
    if (mine !== turn) return;
    if (error instanceof Refused) kickOut(error.message);
    else lost();
    return;
  }
  if (mine !== turn) return;
  query.set('room', room);

  const ws = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}${STAGE}?${query}`);
  let opened = false;
  socket = ws;
  ws.onopen = () => {
    opened = true;
    if (mine === turn) join(); // not before: until now nothing could be sent to us
  };
  ws.onmessage = (event) => {
    if (mine === turn) receive(JSON.parse(event.data));
  };
  ws.onclose = async () => {
    if (mine !== turn) return;
    socket = null;
    // A browser does not say why it could not connect: when the server is there, it did
    // not want us.
    const refused = !opened && await isServerThere();
    if (mine !== turn) return;
    refusals = refused ? refusals + 1 : 0;
    if (refused && (!welcome || refusals === 3)) {
      kickOut(field === $('key') ? 'The server does not accept this API key.' : 'The server did not let you in. Please try again.');
      return;
    }
    lost();
  };
}

// lost connects again, after a pause that doubles from half a second to half a minute. It is
// up to half of that shorter, so that not all clients come back at the same time.
function lost() {
  away();
  setState('lost');
  const pause = Math.min(30000, 500 * 2 ** attempt++);
  clearTimeout(timer);
  timer = setTimeout(connect, pause * (1 - Math.random() / 2));
}

// now connects without the rest of the pause.
function now() {
  if (credentials && !socket) connect();
}

async function isServerThere() {
  try {
    return (await fetch('/', { method: 'HEAD', cache: 'no-store' })).ok;
  } catch {
    return false;
  }
}

function send(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function join() {
  away();
  send({ action: 'Join', room });
  patience = setTimeout(() => socket?.close(), PATIENCE); // and connect again
}

function receive(message) {
  switch (message.action) {
    case 'Joined':
      if (message.room !== room) {
        join(); // we want to be elsewhere by now
        return;
      }
      if (message.name !== me) forget();
      me = message.name;
      here = room;
      clearTimeout(patience);
      welcome = true;
      attempt = refusals = 0;
      setState('connected');
      pump();
      break;
    case 'Present':
      if (message.room === room) showPeople(message.names);
      break;
    case 'Said':
      said(message);
      break;
    default: // of the API itself: our last message has failed
      notify('The server could not handle a message. It is sent again in a moment.');
  }
}

// --- Messages --------------------------------------------------------------

const outbox = []; // messages of ours that have not come back
let flying = null; // the one of them that is on its way
let patience = 0; // a timer, of flying or of Join

// pump sends our messages one by one, in order: the next one when the last has come back.
// What is sent again has its old id, by which everyone knows what they have already.
function pump() {
  if (flying) return;
  flying = outbox.find((m) => m.room === here) ?? null;
  if (!flying) return;
  const { room, id, text } = flying;
  send({ action: 'Say', room, id, text });
  patience = setTimeout(impatient, PATIENCE);
}

function impatient() {
  const message = flying;
  if (++message.tries === TRIES) {
    outbox.splice(outbox.indexOf(message), 1);
    message.fate = 'failed';
    decorate(message);
  }
  join(); // the server may have forgotten us
}

// away is when nothing can be sent.
function away() {
  here = '';
  flying = null;
  clearTimeout(patience);
}

function say(text) {
  const id = Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, '0')).join('');
  const message = { id, room, text, from: me, at: new Date(), fate: 'pending', tries: 0 };
  outbox.push(message);
  add(message);
  scrollDown();
  pump();
}

function said(message) {
  const known = messagesOf(message.room).find((m) => m.id === message.id && m.from === message.from);
  if (known) {
    known.fate = '';
    decorate(known);
    if (outbox.includes(known)) outbox.splice(outbox.indexOf(known), 1);
    if (flying === known) {
      flying = null;
      clearTimeout(patience);
      $('notice').hidden = true;
      pump();
    }
    return;
  }
  const atEnd = isAtEnd();
  add({ id: message.id, room: message.room, text: message.text, from: message.from, at: new Date(message.at), fate: '' });
  if (atEnd) scrollDown();
}

function messagesOf(name) {
  if (!rooms.has(name)) rooms.set(name, []);
  return rooms.get(name);
}

function add(message) {
  const all = messagesOf(message.room);
  all.push(message);
  if (message.room === room) showMessage(message, all.at(-2));
  if (all.length > KEEP) all.shift().item?.remove();
}

function showMessage(message, before) {
  const item = element('li', message.from === me ? 'mine' : '');
  if (before && before.from === message.from && message.at - before.at < 5 * 60 * 1000) item.classList.add('more');
  const by = element('p', 'by');
  by.append(element('b', '', message.from === me ? 'You' : message.from), ' ', time(message.at));
  item.append(face(message.from), by, element('p', 'text', message.text), element('p', 'fate'));
  message.item = item;
  decorate(message);
  $('messages').append(item);
  $('empty').hidden = true;
}

// decorate says what has become of a message of ours.
function decorate(message) {
  const item = message.item;
  if (!item) return;
  item.classList.toggle('pending', message.fate === 'pending');
  item.classList.toggle('failed', message.fate === 'failed');
  const fate = item.querySelector('.fate');
  fate.replaceChildren();
  fate.hidden = message.fate === '';
  if (message.fate === 'pending') fate.textContent = 'Sending…';
  if (message.fate === 'failed') {
    const again = element('button', '', 'Send again');
    again.type = 'button';
    again.onclick = () => {
      message.fate = 'pending';
      message.tries = 0;
      outbox.push(message);
      decorate(message);
      pump();
    };
    fate.append('Not delivered.', again);
  }
}

function time(at) {
  const t = element('time', '', at.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' }));
  t.dateTime = at.toISOString();
  return t;
}

// face is the first letter of a name, in a colour that is its own.
function face(name) {
  const f = element('span', 'face', [...name][0]?.toUpperCase() ?? '?');
  let hue = 0;
  for (const c of name) hue = (hue * 31 + c.codePointAt(0)) % 360;
  f.style.setProperty('--hue', hue);
  f.setAttribute('aria-hidden', 'true');
  return f;
}

function isAtEnd() {
  const s = $('scroll');
  return s.scrollHeight - s.scrollTop - s.clientHeight < 80;
}

function scrollDown() {
  $('scroll').scrollTop = $('scroll').scrollHeight;
}

// --- Rooms and people ------------------------------------------------------

function showPeople(names) {
  $('count').textContent = names.length || '';
  $('people').replaceChildren(...names.map((name) => {
    const item = element('li');
    item.append(face(name), element('span', 'name', name));
    if (name === me) item.append(element('span', 'you', 'you'));
    return item;
  }));
}

function showRooms() {
  $('rooms').replaceChildren(...[...new Set([...ROOMS, ...rooms.keys()])].map((name) => {
    const item = element('li');
    const button = element('button', '', name);
    button.type = 'button';
    if (name === room) button.setAttribute('aria-current', 'true');
    button.onclick = () => goTo(name);
    item.append(button);
    return item;
  }));
}

function goTo(name) {
  if (name !== room) {
    room = name;
    showRoom();
    showPeople([]);
    join();
  }
  $('text').focus();
}

function showRoom() {
  $('room').textContent = room;
  // Nobody wants to have them all read out again.
  $('messages').setAttribute('aria-live', 'off');
  $('messages').replaceChildren();
  $('empty').hidden = false;
  messagesOf(room).forEach((message, i, all) => showMessage(message, all[i - 1]));
  requestAnimationFrame(() => $('messages').setAttribute('aria-live', 'polite'));
  showRooms();
  scrollDown();
}

// --- Log in and out --------------------------------------------------------

const STATES = { connecting: 'Connecting…', connected: 'Connected', lost: 'Reconnecting…' };

function setState(state) {
  $('state').dataset.state = state;
  $('state').textContent = STATES[state];
  $('state').hidden = false;
  $('lost').hidden = state !== 'lost';
  if (state !== 'connected') return;
  $('notice').hidden = true;
  if ($('chat').hidden) {
    $('login').hidden = true;
    $('chat').hidden = $('leave').hidden = false;
    showRoom();
    $('text').focus();
  }
}

function notify(text) {
  $('notice').textContent = text;
  $('notice').hidden = false;
}

function logIn(by, how) {
  field = by;
  credentials = how;
  attempt = refusals = 0;
  welcome = false;
  $('refused').textContent = '';
  $('name').ariaInvalid = $('key').ariaInvalid = null;
  connect();
}

// kickOut asks to log in again. What was not sent is kept for the same user.
function kickOut(why) {
  credentials = null;
  turn++;
  clearTimeout(timer);
  away();
  socket?.close(1000);
  socket = null;
  welcome = false;
  $('state').hidden = $('leave').hidden = $('chat').hidden = true;
  $('login').hidden = false;
  $('refused').textContent = why;
  field.ariaInvalid = why ? 'true' : null;
  field.focus();
}

function logOut() {
  kickOut('');
  forget();
  me = '';
}

// forget what another user has seen.
function forget() {
  $('text').value = '';
  rooms.clear();
  outbox.length = 0;
  flying = null;
  showPeople([]);
  $('messages').replaceChildren();
  $('empty').hidden = false;
}

$('by-name').onsubmit = (event) => {
  event.preventDefault();
  const name = $('name').value.trim();
  // A new token each time: it does not matter for how long one is good.
  logIn($('name'), async () => {
    const answer = await fetch('/login', {
      method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ name }),
    });
    if (answer.status === 400) throw new Refused('This name will not do. Please take another one.');
    if (!answer.ok) throw new Error(`log in: ${answer.status}`);
    return new URLSearchParams({ token: (await answer.json()).token });
  });
};

$('by-key').onsubmit = (event) => {
  event.preventDefault();
  const key = $('key').value.trim();
  $('key').value = '';
  logIn($('key'), async () => new URLSearchParams({ apikey: key }));
};

$('leave').onclick = logOut;
$('now').onclick = () => {
  now();
  $('text').focus(); // the button is about to go
};
addEventListener('online', now);
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) now();
});

$('go').onsubmit = (event) => {
  event.preventDefault();
  const name = $('other').value.trim().toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-|-$/g, '');
  $('other').value = '';
  if (name) goTo(name);
};

$('compose').onsubmit = (event) => {
  event.preventDefault();
  const text = $('text').value.trim();
  if (text) say(text);
  $('text').value = '';
  $('text').focus();
};

$('text').onkeydown = (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $('compose').requestSubmit();
};

// --- Theme -----------------------------------------------------------------

const darkByDefault = matchMedia('(prefers-color-scheme: dark)');

function showTheme() {
  const dark = (document.documentElement.dataset.theme ?? (darkByDefault.matches ? 'dark' : 'light')) === 'dark';
  $('theme').textContent = dark ? 'Light' : 'Dark';
  $('theme').ariaLabel = dark ? 'Light theme' : 'Dark theme';
  return dark;
}

$('theme').onclick = () => {
  const theme = showTheme() ? 'light' : 'dark';
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem('theme', theme);
  } catch { /* it is only for the next time */ }
  showTheme();
};

try {
  const theme = localStorage.getItem('theme');
  if (theme) document.documentElement.dataset.theme = theme;
} catch { /* as the system says */ }
darkByDefault.addEventListener('change', showTheme);
showTheme();
$('name').focus();
