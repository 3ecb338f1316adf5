// What pages can do beyond forms and links: live updates, keys, times in the reader's own zone. Everything here also has
// a visible control, and every page works without it.

const root = document.documentElement;
root.classList.add("scripted");
const main = document.getElementById("main");

// --- Times ----------------------------------------------------------------------------------------------------------

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

function length(seconds) {
  let rest = Math.floor(seconds);
  const parts = [];
  for (const [size, unit] of UNITS) {
    if (rest >= size) parts.push(`${Math.floor(rest / size)} ${unit}`);
    rest %= size;
  }
  return parts.slice(0, 2).join(" ") || "0 s";
}

function tellTimes(within = document) {
  const now = Date.now();
  for (const time of within.querySelectorAll("time[data-ago], time[data-since]")) {
    const seconds = (now - Date.parse(time.dateTime)) / 1000;
    const text = length(Math.abs(seconds));
    const said = "since" in time.dataset ? text : seconds >= 0 ? `${text} ago` : `in ${text}`;
    if (time.textContent !== said) time.textContent = said;
  }
  for (const time of within.querySelectorAll("time[data-local]")) {
    delete time.dataset.local;
    time.title = time.textContent;
    time.textContent = new Date(time.dateTime).toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });
  }
}

// --- Replacing parts of the page by what the server has now -----------------------------------------------------------

// Parts carry data-section and an id. What the reader has opened stays open, and what is being typed is left alone.
function replace(old, fresh) {
  if (old.innerHTML === fresh.innerHTML) return;
  const active = document.activeElement;
  if (old.contains(active) && active.matches("input:not([type=checkbox]), textarea, select")) return;
  const open = [...old.querySelectorAll("details")].map((details) => details.open);
  const checked = new Set([...old.querySelectorAll("input[type=checkbox]:checked")].map((box) => box.value));
  const place = currentItem && old.contains(currentItem) ? items().indexOf(currentItem) : -1;
  const focused = old.contains(active) ? active.id || active.getAttribute("href") : null;
  old.replaceWith(fresh);
  const details = fresh.querySelectorAll("details");
  if (details.length === open.length) details.forEach((one, index) => { one.open = open[index]; });
  for (const box of fresh.querySelectorAll("input[type=checkbox]")) if (checked.has(box.value)) box.checked = true;
  if (place >= 0) makeCurrent(items()[Math.min(place, items().length - 1)], false);
  if (focused) {
    const again = [...fresh.querySelectorAll("[id], a[href]")].find((e) => e.id === focused || e.getAttribute("href") === focused);
    again?.focus({ preventScroll: true });
  }
  tellTimes(fresh);
}

function take(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  if (!fresh.getElementById("main")) return false;
  for (const old of document.querySelectorAll("[data-section]")) {
    const section = fresh.getElementById(old.id);
    if (section) replace(old, section);
  }
  for (const name of ["watch", "needs"]) {
    if (fresh.body.dataset[name] === undefined) delete document.body.dataset[name];
    else document.body.dataset[name] = fresh.body.dataset[name];
  }
  return true;
}

let fetching = false;
let again = false;
let pause = 0;

async function refresh() {
  if (fetching) { again = true; return; }
  fetching = true;
  const started = performance.now();
  try {
    const answer = await fetch(location.href, { credentials: "same-origin" });
    if (answer.redirected && new URL(answer.url).pathname === "/admin/sign-in") location.reload();
    else if (answer.ok) take(await answer.text());
  } catch { /* The connection is gone: the page says so, and asks again when it is back. */ }
  // A list that costs the server something is asked for less often.
  pause = document.body.dataset.follow === "task" ? 300 : Math.max(2000, 20 * (performance.now() - started));
  await new Promise((done) => { setTimeout(done, pause); });
  fetching = false;
  if (again) { again = false; refresh(); }
}

// --- Live -------------------------------------------------------------------------------------------------------------

const STALE = 10; // seconds without a word, twice as long as the server is ever silent
const status = document.getElementById("live");
let socket = null;
let heard = Date.now();
let tries = 0;
let retry = 0;

function watched() { return JSON.parse(document.body.dataset.watch || "{}"); }

function connect() {
  clearTimeout(retry);
  if (!status || document.hidden || socket) return;
  const url = new URL("/admin/live", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  if (document.body.dataset.lanes) url.searchParams.set("lanes", "1");
  url.searchParams.set("watch", Object.keys(watched()).join(","));
  const mine = new WebSocket(url);
  socket = mine;
  mine.onmessage = (message) => {
    if (mine !== socket) return;
    heard = Date.now();
    tries = 0;
    hear(JSON.parse(message.data));
    tellLive();
  };
  mine.onclose = (event) => {
    if (mine !== socket) return;
    socket = null;
    // Signed out: to the form for that, unless something is being written that would be lost.
    if (event.code === 4401 && !document.activeElement?.matches("textarea, input, select")) { location.reload(); return; }
    tellLive();
    retry = setTimeout(connect, Math.min(30000, 500 * 2 ** tries++) * (0.75 + Math.random() / 2));
  };
}

function disconnect() {
  clearTimeout(retry);
  const mine = socket;
  socket = null;
  mine?.close();
}

function hear(news) {
  if (news.counts) {
    for (const badge of document.querySelectorAll("[data-count]")) {
      const text = news.counts[badge.dataset.count];
      badge.textContent = text;
      if ("hideZero" in badge.dataset) badge.hidden = text === "0";
    }
  }
  const lanes = document.getElementById("lanes");
  if (news.lanes !== undefined && lanes && document.body.dataset.lanes) {
    const fresh = lanes.cloneNode(false);
    fresh.innerHTML = news.lanes;
    replace(lanes, fresh);
  }
  const { follow, needs } = document.body.dataset;
  const known = watched();
  const moved = Object.entries(news.tasks || {}).some(([id, version]) => known[id] !== undefined && known[id] !== version);
  if (moved || (follow === "needs" && news.needs !== undefined && news.needs !== needs)) {
    // Asked for once for this news, whatever comes of it.
    document.body.dataset.watch = JSON.stringify({ ...known, ...news.tasks });
    if (news.needs !== undefined) document.body.dataset.needs = news.needs;
    refresh();
  }
}

function tellLive() {
  if (!status) return;
  const seconds = Math.floor((Date.now() - heard) / 1000);
  const lost = seconds >= STALE || !socket || socket.readyState !== WebSocket.OPEN;
  status.hidden = false;
  status.classList.toggle("lost", lost && seconds >= 2);
  const said = lost && seconds >= 2 ? `not updated for ${length(seconds)}` : "● live";
  if (status.textContent !== said) status.textContent = said;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) { disconnect(); return; }
  tries = 0;
  connect();
  if (Date.now() - heard > STALE * 1000 && document.querySelector("[data-section]")) refresh();
});
addEventListener("pagehide", disconnect);
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
addEventListener("online", () => { tries = 0; connect(); });

// --- Keys -------------------------------------------------------------------------------------------------------------

let currentItem = null;
let prefix = "";
const toggle = document.getElementById("keys-on");
const dialog = document.getElementById("keys");

function items() { return [...document.querySelectorAll("[data-item]")].filter((item) => item.getClientRects().length); }

function makeCurrent(item, scroll = true) {
  currentItem?.classList.remove("current");
  currentItem = item || null;
  if (!item) return;
  item.classList.add("current");
  if (!scroll) return;
  item.scrollIntoView({ block: "nearest" });
  (item.querySelector("a[href]") || item).focus({ preventScroll: true });
}

function move(step) {
  const all = items();
  if (!all.length) return;
  const index = all.indexOf(currentItem);
  makeCurrent(all[index < 0 ? (step > 0 ? 0 : all.length - 1) : Math.max(0, Math.min(all.length - 1, index + step))]);
}

function press(key) {
  // In the current item; else the only one on the page, so that a decision is never about something unseen.
  const found = currentItem?.isConnected && currentItem.querySelector(`[data-key="${key}"]`);
  const all = document.querySelectorAll(`[data-key="${key}"]`);
  const notice = document.querySelector(`.notice [data-key="${key}"]`);
  const control = found || notice || (all.length === 1 ? all[0] : null) || (key === "x" ? null : first(key));
  if (!control) return false;
  if (control.matches("summary")) {
    const details = control.parentElement;
    details.open = true;
    (details.querySelector("form textarea, form input:not([type=hidden]), form select") || control).focus();
  } else control.click();
  return true;
}

// On a list without a current item, the first press only shows which one is meant.
function first(key) {
  const item = items().find((one) => one.querySelector(`[data-key="${key}"]`));
  if (item && item !== currentItem) makeCurrent(item);
  return null;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const typing = event.target.closest("input:not([type=checkbox]), textarea, select, [contenteditable]");
  if (event.key === "Escape" && typing) { typing.blur(); return; }
  if (typing || dialog?.open || (toggle && !toggle.checked)) return;
  const key = event.key;
  if (prefix === "g") {
    prefix = "";
    const link = document.querySelector(`[data-go="${CSS.escape(key)}"]`);
    if (link) { event.preventDefault(); link.click(); }
    return;
  }
  const done = () => event.preventDefault();
  if (key === "g") { prefix = "g"; setTimeout(() => { prefix = ""; }, 1500); done(); }
  else if (key === "?") { dialog?.showModal(); done(); }
  else if (key === "/") { document.querySelector("[data-search]")?.focus(); done(); }
  else if (key === "j") { move(1); done(); }
  else if (key === "k") { move(-1); done(); }
  else if (key === "Enter" && currentItem?.isConnected && !event.target.closest("a, button, summary, input")) {
    currentItem.querySelector("a[href]")?.click();
    done();
  } else if ("aeruxn".includes(key) && key.length === 1 && !event.repeat && press(key)) done();
});

document.addEventListener("focusin", (event) => {
  const item = event.target.closest?.("[data-item]");
  if (item && item !== currentItem) makeCurrent(item, false);
});

if (toggle) {
  toggle.checked = localStorage.getItem("zora-keys") !== "off";
  toggle.addEventListener("change", () => localStorage.setItem("zora-keys", toggle.checked ? "on" : "off"));
}
document.getElementById("help")?.addEventListener("click", () => dialog.showModal());

// After a decision the list is loaded anew: the next one takes the place of the one that was decided.
document.addEventListener("submit", (event) => {
  const item = event.target.closest("[data-item]");
  if (item) sessionStorage.setItem("zora-place", JSON.stringify([location.pathname + location.search, items().indexOf(item)]));
  const pressed = event.submitter;
  // Pressed twice is meant once.
  setTimeout(() => { for (const button of event.target.querySelectorAll("button")) button.disabled = true; pressed?.setAttribute("aria-busy", "true"); });
});
const [where, place] = JSON.parse(sessionStorage.getItem("zora-place") || "[null]");
sessionStorage.removeItem("zora-place");
const start = where === location.pathname + location.search ? place : document.body.dataset.follow === "needs" ? 0 : null;
if (start !== null && items().length) makeCurrent(items()[Math.min(start, items().length - 1)], start > 0);

// --- Forms ------------------------------------------------------------------------------------------------------------

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-all]")) {
    for (const box of document.querySelectorAll("input[name=id]")) box.checked = event.target.checked;
  }
});

// A form with data-check is looked at by the server while it is filled in: its errors, and the same as a command.
const checked = document.querySelector("form[data-check]");
let wait = 0;
checked?.addEventListener("input", () => {
  clearTimeout(wait);
  wait = setTimeout(async () => {
    const data = new URLSearchParams(new FormData(checked));
    data.set("action", "check");
    try {
      const answer = await fetch(checked.getAttribute("action"), { method: "POST", body: data, credentials: "same-origin" });
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("command");
      if (fresh) replace(document.getElementById("command"), fresh);
    } catch { /* It is checked again when it is sent. */ }
  }, 400);
});

if (location.hash === "#edit") document.getElementById("edit")?.setAttribute("open", "");
tellTimes();
setInterval(() => { tellTimes(); if (!document.hidden) tellLive(); }, 1000);
connect();
