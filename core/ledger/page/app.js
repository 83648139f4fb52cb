"use strict";
// The page asks for the ledger each second and draws it. Names of kernels and categories are
// foreign text: they get into the document as text, and nowhere else.
(() => {
  const EVERY = 1000; // between two requests, ms
  const WINDOW = 180; // of a line, s
  const SMOOTH = 5; // what a rate is over, s
  const GAP = 5; // without an answer breaks a line, s

  const $ = (id) => document.getElementById(id);
  const has = (v) => v > 0;
  const count = (v) => (Number.isFinite(v) ? v : 0);

  // What became of all: field, text, colour. Their sum is the total.
  const SIDES = {
    emit: {
      field: "emit", total: "accepted", done: "confirmed",
      ends: [
        ["confirmed", "confirmed", "done"], ["inFlight", "in flight", "flow"], ["deadLetters", "dead letters", "dead"],
        ["failed", "failed", "fail"], ["dropped", "dropped", "drop"], ["undelivered", "undelivered", "late"],
      ],
      gauges: [["inFlight", "in flight", "flow"], ["deadLetters", "dead letters", "dead"]],
      notes: [["retried", "retried"], ["refused", "refused"]],
      nameless: "no name",
    },
    listen: {
      field: "listen", total: "received", done: "acked", doneText: "acknowledged",
      ends: [
        ["acked", "acknowledged", "done"], ["working", "working", "flow"], ["waiting", "waiting", "wait"],
        ["failed", "failed", "fail"], ["rejected", "rejected", "deny"], ["expired", "expired", "late"],
        ["released", "released", "back"], ["leaseLost", "lease lost", "drop"], ["lost", "lost", "dead"],
      ],
      gauges: [["waiting", "waiting", "wait"], ["working", "working", "flow"]],
      notes: [["redelivered", "redelivered"], ["ignored", "ignored settlements"]],
      nameless: "other categories",
    },
  };

  // Numbers, for people.
  const whole = new Intl.NumberFormat("en");
  const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
  const tenth = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
  const number = (v) => (Math.abs(v) < 1e6 ? whole.format(v) : short.format(v));
  const perSecond = (v) => (v === undefined ? "–" : v === 0 ? "0" : v < 9.95 ? tenth.format(v) : number(Math.round(v)));
  const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");
  function age(ns) {
    const s = ns / 1e9;
    if (s < 0.9995) return `${Math.max(1, Math.round(s * 1e3))} ms`;
    if (s < 9.95) return `${tenth.format(s)} s`;
    if (s < 60) return `${Math.floor(s)} s`;
    if (s < 3600) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
    return `${whole.format(Math.floor(s / 3600))} h ${Math.floor((s % 3600) / 60)} min`;
  }

  // The document. What has not changed is left alone, for who reads it with a cursor or an ear.
  function write(node, text) { if (node.textContent !== text) node.textContent = text; }
  function show(node, visible) { if (node.hidden === visible) node.hidden = !visible; }
  function label(node, text) { if (node.getAttribute("aria-label") !== text) node.setAttribute("aria-label", text); }
  function create(tag, className, text) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  }
  function clone(id) { return $(id).content.firstElementChild.cloneNode(true); }
  function writeName(node, name, nameless) {
    write(node, name === "" ? nameless : name);
    node.classList.toggle("foreign", name === "");
  }

  // sync makes the children of parent those of the keys, in order; make makes one.
  function sync(parent, views, keys, make) {
    for (const [key, view] of views) {
      if (keys.includes(key)) continue;
      view.node.remove();
      views.delete(key);
    }
    keys.forEach((key, i) => {
      if (!views.has(key)) views.set(key, make(key));
      const { node } = views.get(key);
      if (parent.children[i] !== node) parent.insertBefore(node, parent.children[i] || null);
    });
  }
  const sorted = (object) => Object.keys(object || {}).sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));

  // History is what became of two counters, in and out, at what time.
  class History {
    constructor() { this.samples = []; }

    add(t, into, out) {
      const last = this.samples.at(-1);
      if (last && (into < last.into || out < last.out || t < last.t)) this.samples = []; // another process
      if (last && t === last.t) return;
      this.samples.push({ t, into, out });
      while (this.samples.length > 2 && this.samples[0].t < t - (WINDOW + SMOOTH) * 1000) this.samples.shift();
    }

    // rates of both over the last seconds up to sample i; undefined when that is not known.
    rates(i = this.samples.length - 1, over = SMOOTH) {
      const now = this.samples[i];
      let from = i;
      while (from > 0 && now.t - this.samples[from].t < over * 1000 && this.samples[from].t - this.samples[from - 1].t < GAP * 1000) from--;
      const s = now && (now.t - this.samples[from].t) / 1000;
      return s > 0 ? { into: (now.into - this.samples[from].into) / s, out: (now.out - this.samples[from].out) / s } : {};
    }

    // points of the line: seconds ago, and rates.
    points() {
      const now = this.samples.at(-1);
      return this.samples.flatMap((s, i) => {
        const ago = (now.t - s.t) / 1000;
        const r = this.rates(i, 3);
        const gap = i > 0 && s.t - this.samples[i - 1].t >= GAP * 1000;
        return ago > WINDOW ? [] : [{ ago, gap, ...r }];
      });
    }
  }

  // path of one of the rates through a box of WINDOW × 48.
  function path(points, field, top, closed) {
    const x = (p) => (WINDOW - p.ago).toFixed(1);
    const y = (p) => (47 - (p[field] / top) * 45).toFixed(1);
    let d = "";
    let start = null;
    const close = (p) => { if (closed && start && p) d += `L${x(p)} 47L${x(start)} 47Z`; };
    let before = null;
    for (const p of points) {
      if (p[field] === undefined || p.gap) { close(before); start = before = null; }
      if (p[field] === undefined) continue;
      d += `${start ? "L" : "M"}${x(p)} ${y(p)}`;
      start ??= p;
      before = p;
    }
    close(before);
    return d;
  }

  // Gauge is a number that goes up and down, against the highest it was.
  class Gauge {
    constructor([field, text, className]) {
      this.field = field;
      this.node = clone("gauge");
      this.node.className = className;
      this.node.querySelector("dt").textContent = text;
      this.bar = this.node.querySelector(".track span");
      this.value = this.node.querySelector("b");
      this.most = 1;
    }

    draw(v) {
      this.most = Math.max(this.most, v);
      write(this.value, number(v));
      this.bar.style.width = `${(100 * v) / this.most}%`;
      this.node.classList.toggle("some", has(v));
    }
  }

  // Row is a category of a side.
  class Row {
    constructor(side, id) {
      this.side = side;
      this.node = clone("row");
      this.node.id = id;
      const find = (selector) => this.node.querySelector(selector);
      this.name = find("h4 bdi");
      this.flag = find(".flag");
      [this.age, this.longest] = find(".age").children;
      this.in = find(".in dd");
      this.out = find(".out dd");
      find(".in dt").textContent = side.total;
      find(".out dt").textContent = side.doneText || side.done;
      this.svg = find("svg");
      this.area = find(".area");
      this.lineIn = find(".line-in");
      this.lineOut = find(".line-out");
      this.caption = find("figcaption");
      this.gauges = side.gauges.map((g) => new Gauge(g));
      find(".gauges").append(...this.gauges.map((g) => g.node));
      this.stack = side.ends.map(([, , className]) => create("i", className));
      find(".stack").append(...this.stack);
      this.terms = find(".sum-of");
      this.notes = find(".notes");
      this.history = new History();
      this.stuck = null;
    }

    // take notes a ledger, drawn or not.
    take(c, t) {
      this.history.add(t, count(c[this.side.total]), count(c[this.side.done]));
      // A channel is blocked when there are dead letters and nobody takes one.
      const taken = count(c.failed) + count(c.dropped) + count(c.undelivered);
      const dead = this.side === SIDES.emit && has(c.deadLetters);
      if (!dead || !this.stuck || this.stuck.taken !== taken || this.stuck.t > t) this.stuck = dead ? { taken, t } : null;
      this.blocked = this.stuck && t > this.stuck.t ? t - this.stuck.t : 0;
    }

    draw(name, c) {
      writeName(this.name, name, this.side.nameless);
      this.node.classList.toggle("blocked", this.blocked > 0);
      show(this.flag, this.blocked > 0);
      write(this.flag, this.blocked > 0 ? `dlq not read for ${age(this.blocked * 1e6)}` : "");
      const open = this.side.gauges.some(([field]) => has(c[field]));
      write(this.age, has(c.oldest) ? `oldest ${age(c.oldest)}` : open ? "" : "nothing open");
      write(this.longest, has(c.longest) ? `in work ${age(c.longest)}` : "");
      this.drawLine();
      for (const g of this.gauges) g.draw(count(c[g.field]));
      this.drawOutcome(c);
      write(this.notes, this.side.notes.filter(([field]) => has(c[field])).map(([field, text]) => `${number(c[field])} ${text}`).join(" · "));
    }

    drawLine() {
      const r = this.history.rates();
      write(this.in, perSecond(r.into));
      write(this.out, perSecond(r.out));
      const points = this.history.points();
      const peak = Math.max(0, ...points.map((p) => Math.max(p.into || 0, p.out || 0)));
      const top = Math.max(peak, 1);
      this.area.setAttribute("d", path(points, "into", top, true));
      this.lineIn.setAttribute("d", path(points, "into", top, false));
      this.lineOut.setAttribute("d", path(points, "out", top, false));
      write(this.caption, has(peak) ? `peak ${perSecond(peak)}` : "");
      label(this.svg, `${this.side.total} and ${this.side.doneText || this.side.done} a second, the last 3 minutes: at most ${perSecond(peak)}`);
    }

    drawOutcome(c) {
      this.side.ends.forEach(([field], i) => {
        show(this.stack[i], has(c[field]));
        this.stack[i].style.flexGrow = Math.max(0, count(c[field]));
      });
      const some = this.side.ends.filter(([field], i) => i === 0 || has(c[field]));
      const key = some.map(([field]) => field).join();
      if (this.key !== key) { // other terms
        this.key = key;
        this.terms.replaceChildren();
        const term = (className, before, text) => {
          const node = create("span", className);
          node.append(before, create("i"), create("b"), ` ${text}`);
          return node;
        };
        this.terms.append(term("all", "", `${this.side.total} =`));
        some.forEach(([, text, className], i) => this.terms.append(" ", term(className, i ? "+ " : "", text)));
      }
      const values = this.terms.querySelectorAll("b");
      [c[this.side.total], ...some.map(([field]) => c[field])].forEach((v, i) => write(values[i], whole.format(count(v))));
    }
  }

  // Operation is a kind of call of the broker.
  class Operation {
    constructor(name) {
      this.node = clone("operation");
      this.node.querySelector("h4").textContent = name;
      this.value = this.node.querySelector(".per b");
      this.unit = this.node.querySelector(".per span");
      this.more = this.node.querySelector(".more");
      this.rest = create("span");
      this.errors = create("span");
      this.more.append(this.rest, this.errors);
      this.history = new History();
    }

    draw(c, extra) {
      const per = count(c.calls) / count(c.entries);
      write(this.value, has(c.entries) ? (per < 0.995 ? per.toFixed(2) : per < 99.5 ? tenth.format(per) : number(Math.round(per))) : "–");
      write(this.unit, has(c.entries) ? "requests a message" : "no message yet");
      const calls = this.history.rates().into;
      write(this.rest, [`${perSecond(calls)}/s`, `${number(count(c.open))} open`, ...extra].join(" · "));
      write(this.errors, has(c.errors) ? ` · ${number(c.errors)} ${c.errors === 1 ? "error" : "errors"}` : "");
      this.errors.classList.toggle("warn", has(c.errors));
    }
  }

  let made = 0; // views, for their ids

  // Kernel is a section.
  class Kernel {
    constructor() {
      this.node = clone("kernel");
      const find = (selector) => this.node.querySelector(selector);
      this.id = `kernel-${made++}`;
      find("h2").id = this.id;
      this.node.setAttribute("aria-labelledby", this.id);
      this.name = find("h2 bdi");
      this.life = find(".life");
      this.sum = find(".sum");
      this.faults = find(".faults");
      this.figures = new Map();
      this.totals = find(".totals");
      this.sides = Object.entries(SIDES).map(([name, side]) => ({ side, node: find(`.${name}`), rows: new Map(), history: new History() }));
      this.requests = find(".requests");
      this.operations = new Map();
    }

    // take notes a ledger, drawn or not.
    take(k, t) {
      this.ledger = k;
      for (const s of this.sides) {
        const all = k[s.side.field] || {};
        sync(s.node.querySelector(".rows"), s.rows, sorted(all), () => new Row(s.side, `row-${made++}`));
        for (const [name, row] of s.rows) row.take(all[name], t);
        const total = (field) => Object.values(all).reduce((sum, c) => sum + count(c[field]), 0);
        s.history.add(t, total(s.side.total), total(s.side.done));
        s.open = s.side.ends.filter(([field]) => ["inFlight", "deadLetters", "working", "waiting"].includes(field)).reduce((sum, [field]) => sum + total(field), 0);
      }
      const order = ["send", "receive", "settle", "extend"];
      const all = k.requests || {};
      const called = sorted(all).filter((name) => has(all[name].calls));
      const names = [...order.filter((name) => called.includes(name)), ...called.filter((name) => !order.includes(name))];
      sync(this.requests.querySelector(".operations"), this.operations, names, (name) => new Operation(name));
      for (const [name, o] of this.operations) o.history.add(t, count(all[name].calls), count(all[name].entries));
    }

    get ended() { return Boolean(this.ledger.closing) && this.sides.every((s) => !has(s.open)) && !has(this.ledger.settling); }

    problems(name) {
      const all = [];
      if (this.ledger.fault) all.push({ to: this.id, name, text: "has a fault in its ledger" });
      for (const s of this.sides) {
        for (const [category, row] of s.rows) {
          if (row.blocked > 0) all.push({ to: row.node.id, name: category || s.side.nameless, text: "is blocked: values have failed, and their dead-letter channel is not read" });
        }
      }
      return all;
    }

    draw(name) {
      const k = this.ledger;
      writeName(this.name, name, "no name");
      const known = Boolean(k.emit || k.listen || k.requests) || !k.fault;
      show(this.life, known);
      write(this.life, this.ended ? "Ended" : k.closing ? "Draining" : "Running");
      write(this.sum, k.fault ? "Fault" : "Adds up");
      this.sum.classList.toggle("bad", Boolean(k.fault));
      show(this.faults, Boolean(k.fault));
      const faults = String(k.fault || "");
      if (this.faults.dataset.text !== faults) {
        this.faults.dataset.text = faults;
        this.faults.replaceChildren(...faults.split("\n").map((line) => create("li", "", line)));
      }
      this.drawTotals();
      for (const s of this.sides) {
        const some = s.rows.size > 0;
        show(s.node, some || (known && this.sides.every((other) => other.rows.size === 0)));
        show(s.node.querySelector(".none"), !some);
        s.node.classList.toggle("bare", !some);
        for (const [category, row] of s.rows) row.draw(category, k[s.side.field][category]);
      }
      show(this.requests, known);
      show(this.requests.querySelector(".none"), this.operations.size === 0);
      for (const [op, o] of this.operations) {
        const settled = op === "settle" ? [has(k.settling) && `${number(k.settling)} settling`, has(k.unconfirmed) && `${number(k.unconfirmed)} unconfirmed`] : [];
        o.draw(k.requests[op], settled.filter(Boolean));
      }
    }

    drawTotals() {
      const figures = [];
      for (const s of this.sides) {
        if (s.rows.size === 0) continue;
        const r = s.history.rates();
        figures.push([s.side.total, perSecond(r.into), "/s"], [s.side.doneText || s.side.done, perSecond(r.out), "/s"]);
      }
      if (figures.length > 0) figures.push(["open", number(this.sides.reduce((sum, s) => sum + s.open, 0)), ""]);
      sync(this.totals, this.figures, figures.map(([text]) => text), (text) => {
        const node = clone("figure");
        node.querySelector("dt").textContent = text[0].toUpperCase() + text.slice(1);
        const value = create("span");
        const unit = create("small");
        node.querySelector("dd").append(value, unit);
        return { node, value, unit };
      });
      figures.forEach(([text, value, unit], i) => {
        const f = this.figures.get(text);
        write(f.value, value);
        write(f.unit, unit);
        f.node.classList.toggle("next", i > 0 && i % 2 === 0);
      });
      show(this.totals, figures.length > 0);
    }
  }

  // The page.
  const kernels = new Map();
  let last = null; // snapshot
  let paused = false;
  let drawnProblems = "";

  function take(snapshot) {
    last = snapshot;
    const t = Date.parse(snapshot.at);
    sync($("kernels"), kernels, sorted(snapshot.kernels), () => new Kernel());
    for (const [name, k] of kernels) k.take(snapshot.kernels[name], t);
  }

  function draw() {
    if (!last || document.hidden || paused) return;
    write($("empty"), "There is no kernel to show: the handler was given none.");
    show($("empty"), kernels.size === 0);
    for (const [name, k] of kernels) k.draw(name);
    drawProblems();
  }

  function drawProblems() {
    const problems = [...kernels].flatMap(([name, k]) => k.problems(name || "no name"));
    document.title = `${problems.length ? `(${problems.length}) ` : ""}Ledger of ${location.host}`;
    const key = JSON.stringify(problems);
    if (key === drawnProblems) return; // it would be read out again
    drawnProblems = key;
    $("attention").querySelector("ul").replaceChildren(...problems.map(({ to, name, text }) => {
      const link = create("a");
      link.href = `#${to}`;
      link.append(create("bdi", "", name), ` ${text}`);
      const item = create("li");
      item.append(link);
      return item;
    }));
    show($("attention"), problems.length > 0);
  }

  function state(name, text, title, detail) {
    $("state").dataset.state = name;
    write($("state"), text);
    show($("lost"), Boolean(title));
    write($("lost").querySelector("b"), title || "");
    write($("lost").querySelector("span"), detail || "");
  }

  function lost(reason) {
    const seen = last ? `What you see is of ${clock(Date.parse(last.at))}.` : "";
    if (kernels.size > 0 && [...kernels.values()].every((k) => k.ledger.closing)) {
      state("ended", "Ended", "The process has ended.", `${seen} If it starts again it shows up here.`);
    } else {
      state("lost", "Reconnecting", `${reason}, retrying.`, seen);
    }
  }

  async function ask() {
    let answer;
    try {
      answer = await fetch(location.pathname + location.search, { headers: { Accept: "application/json" }, cache: "no-store", signal: AbortSignal.timeout(5000) });
    } catch {
      return lost("Connection lost");
    }
    if (!answer.ok) return lost(`The server answers ${answer.status}`);
    let snapshot;
    try {
      snapshot = await answer.json();
      if (typeof snapshot.kernels !== "object" || !(Date.parse(snapshot.at) > 0)) throw new TypeError("no ledger");
    } catch {
      return lost("The answer is no ledger");
    }
    take(snapshot);
    draw();
    state(paused ? "paused" : "live", paused ? "Paused" : "Live");
  }

  async function poll() {
    await ask();
    setTimeout(poll, EVERY);
  }

  write($("host"), location.host);
  $("pause").addEventListener("click", () => {
    paused = !paused;
    $("pause").setAttribute("aria-pressed", String(paused));
    if ($("lost").hidden) state(paused ? "paused" : "live", paused ? "Paused" : "Live");
    draw();
  });
  document.addEventListener("visibilitychange", draw);
  poll();
})();
