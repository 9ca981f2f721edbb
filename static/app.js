// What pages gain with scripts. Everything works without: forms are sent, links lead on, text can be selected.
// Custom elements start by themselves wherever HTML is swapped in.

const announce = (text) => { document.getElementById("announce").textContent = text; };
const later = (milliseconds, act) => setTimeout(act, milliseconds);

document.documentElement.classList.add("has-scripts");

customElements.define("copy-button", class extends HTMLElement {
  connectedCallback() {
    const button = this.querySelector("button");
    if (!button || !navigator.clipboard) return;
    button.hidden = false;
    button.addEventListener("click", async () => {
      const label = button.querySelector("span"), before = label.textContent;
      try {
        await navigator.clipboard.writeText(button.dataset.copy);
        label.textContent = "Copied";
        announce("Copied");
      } catch {
        label.textContent = "Select it and copy by hand";
      }
      later(2000, () => { label.textContent = before; });
    });
  }
});

customElements.define("theme-toggle", class extends HTMLElement {
  connectedCallback() {
    this.addEventListener("submit", (event) => {
      event.preventDefault();
      const root = document.documentElement, { density, shortcuts } = root.dataset;
      const dark = root.dataset.theme === "dark" || (root.dataset.theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
      root.dataset.theme = dark ? "light" : "dark";
      const secure = location.protocol === "https:" ? "; Secure" : "";
      document.cookie = `ui=${root.dataset.theme}.${density}.${shortcuts}; Path=/; SameSite=Lax; Max-Age=31536000${secure}`;
      announce(`${root.dataset.theme} theme`);
    });
  }
});

customElements.define("reveal-password", class extends HTMLElement {
  connectedCallback() {
    const input = this.querySelector("input");
    if (!input || this.querySelector("button")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Show";
    button.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-label", "Show password");
    button.addEventListener("click", () => {
      const shown = input.type === "text";
      input.type = shown ? "password" : "text";
      button.textContent = shown ? "Show" : "Hide";
      button.setAttribute("aria-pressed", String(!shown));
    });
    this.append(button);
  }
});

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const STEPS = [["second", 60], ["minute", 60], ["hour", 24], ["day", 30]];

customElements.define("local-time", class extends HTMLElement {
  connectedCallback() {
    this.time = this.querySelector("time");
    if (!this.time) return;
    const date = new Date(this.time.dateTime), form = this.getAttribute("form");
    this.time.title = `${date.toLocaleString()} · ${this.time.dateTime}`;
    const today = date.toDateString() === new Date().toDateString();
    if (form === "clock" || (form === "log" && today)) this.time.textContent = date.toLocaleTimeString("en-GB");
    else if (form === "log") this.time.textContent = date.toLocaleString("en-GB", { day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" });
    else if (form === "full") this.time.textContent = date.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" });
    else { this.show(date); this.timer = setInterval(() => this.show(date), 30000); }
  }
  disconnectedCallback() { clearInterval(this.timer); }
  show(date) {
    let past = (date - Date.now()) / 1000;
    if (Math.abs(past) > 30 * 86400) { this.time.textContent = date.toLocaleDateString("en-GB", { dateStyle: "medium" }); return; }
    for (const [unit, size] of STEPS) {
      if (Math.abs(past) < size || unit === "day") { this.time.textContent = relative.format(Math.round(past), unit); return; }
      past /= size;
    }
  }
});

customElements.define("toast-message", class extends HTMLElement {
  connectedCallback() {
    const seconds = Number(this.getAttribute("stays") ?? 5);
    if (seconds === 0) return;
    const start = () => { this.timer = later(seconds * 1000, () => this.end()); };
    start();
    // An offer ends when it ends; a message waits while somebody reads it.
    if (this.querySelector("form")) return;
    for (const event of ["mouseenter", "focusin"]) this.addEventListener(event, () => clearTimeout(this.timer));
    for (const event of ["mouseleave", "focusout"]) this.addEventListener(event, start);
  }
  disconnectedCallback() { clearTimeout(this.timer); }
  end() {
    if (this.contains(document.activeElement)) document.getElementById("main").focus({ preventScroll: true });
    this.remove();
  }
});

// A request of the page that gets no answer is said, until one gets one. What is saved as it is ticked then shows what was saved before.
const unanswered = document.createElement("toast-message");
unanswered.className = "toast danger";
unanswered.setAttribute("stays", "0");
unanswered.textContent = "The server does not answer. Check that it can be reached, and try again.";
addEventListener("htmx:error", (event) => {
  const { ctx } = event.detail;
  if (!ctx || ctx.text !== undefined || ctx.sourceElement.closest("live-feed")) return;
  ctx.sourceElement.closest(".quiet-form")?.reset();
  document.getElementById("toasts").append(unanswered);
});
for (const name of ["htmx:before:response", "htmx:sse:after:connection"]) addEventListener(name, () => unanswered.remove());

// A secret is gone from the page as soon as the page is left, also from the copy that the browser keeps for Back.
customElements.define("secret-field", class extends HTMLElement {
  connectedCallback() {
    const after = this.getAttribute("after");
    if (after) history.replaceState(null, "", after);
    this.leave = () => this.remove();
    addEventListener("pagehide", this.leave);
  }
  disconnectedCallback() { removeEventListener("pagehide", this.leave); }
});

customElements.define("snippet-tabs", class extends HTMLElement {
  connectedCallback() {
    const panels = [...this.querySelectorAll(":scope > [data-tab]")];
    if (panels.length < 2 || this.querySelector("[role=tablist]")) return;
    const list = document.createElement("div");
    list.className = "tabs";
    list.setAttribute("role", "tablist");
    const tabs = panels.map((panel) => {
      const tab = document.createElement("button");
      tab.type = "button";
      tab.textContent = panel.dataset.tab;
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-controls", panel.id);
      panel.setAttribute("role", "tabpanel");
      panel.setAttribute("aria-label", panel.dataset.tab);
      list.append(tab);
      return tab;
    });
    const choose = (chosen, focus) => {
      tabs.forEach((tab, index) => {
        tab.setAttribute("aria-selected", String(index === chosen));
        tab.tabIndex = index === chosen ? 0 : -1;
        panels[index].hidden = index !== chosen;
      });
      if (focus) tabs[chosen].focus();
    };
    list.addEventListener("click", (event) => { const at = tabs.indexOf(event.target.closest("button")); if (at >= 0) choose(at); });
    list.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key], now = tabs.indexOf(document.activeElement);
      if (step && now >= 0) { event.preventDefault(); choose((now + step + tabs.length) % tabs.length, true); }
    });
    this.prepend(list);
    choose(0);
  }
});

// Narrows a long table of choices to what is looked for. What is ticked stays ticked, shown or not.
customElements.define("find-rows", class extends HTMLElement {
  connectedCallback() {
    const field = this.querySelector("input[type=search]");
    field.hidden = false;
    field.addEventListener("keydown", (event) => { if (event.key === "Enter") event.preventDefault(); });
    field.addEventListener("input", () => {
      const wanted = field.value.trim().toLowerCase();
      for (const row of this.querySelectorAll("tbody tr")) row.hidden = !row.textContent.toLowerCase().includes(wanted);
    });
  }
});

// Rows that are ticked: all of a page at once, how many they are, and all that match, of which the page's are a part.
const picks = () => [...document.querySelectorAll("input[name=id][form=picked]")];
const showPicked = () => {
  const page = document.querySelector("[data-pick-page]"), all = document.querySelector("[data-pick-all]"), said = document.querySelector("[data-picked]");
  if (!page || !all) return;
  const boxes = picks(), ticked = boxes.filter((box) => box.checked).length;
  page.hidden = false;
  page.checked = ticked > 0 && ticked === boxes.length;
  page.indeterminate = ticked > 0 && ticked < boxes.length;
  for (const box of [page, ...boxes]) box.disabled = all.checked;
  said.textContent = all.checked || !ticked ? "" : `${ticked} ticked`;
};
addEventListener("change", (event) => {
  if (event.target.matches("[data-pick-page]")) for (const box of picks()) box.checked = event.target.checked;
  if (event.target.matches("[data-pick-page], [data-pick-all], [form=picked]")) showPicked();
});
addEventListener("htmx:after:swap", showPicked);
addEventListener("pageshow", showPicked);

// A time is chosen either by its length up to now or by its ends: what is chosen last empties the other.
addEventListener("input", ({ target }) => {
  if (!target.matches(".filters [name=range], .filters [name=from], .filters [name=to]")) return;
  for (const name of target.name === "range" ? ["from", "to"] : ["range"]) {
    const other = target.form.elements[name];
    if (other) other.value = "";
  }
});

customElements.define("live-feed", class extends HTMLElement {
  connectedCallback() {
    const words = { connecting: "Connecting…", live: "● Live", reconnecting: "◌ Reconnecting…", ended: "– Ended", refused: "– Signed out", full: "– Too many live pages open" };
    const pill = this.querySelector("[data-state]");
    const over = () => ["ended", "refused"].includes(this.getAttribute("state"));
    const say = (state) => { if (!over()) { this.setAttribute("state", state); pill.textContent = words[state]; } };
    this.addEventListener("htmx:sse:before:connection", (event) => {
      if (over()) event.detail.connection.cancelled = true;
      else if (event.detail.connection.attempt > 0) say("reconnecting");
    });
    for (const name of ["htmx:sse:after:connection", "htmx:sse:after:message"]) this.addEventListener(name, () => say("live"));
    for (const name of ["htmx:sse:error", "htmx:error"]) this.addEventListener(name, (event) => say({ 401: "refused", 403: "refused", 429: "full" }[event.detail.status] ?? "reconnecting"));
    this.addEventListener("htmx:response:error", (event) => { if (event.detail.ctx.response.status === 429) say("full"); });
    this.addEventListener("end", () => say("ended"));
    this.addEventListener("htmx:sse:close", () => say("ended"));
  }
});

// A list that follows a feed. The feed puts rows into [data-waiting]; from there they take their places, unless somebody reads further
// down or points at a row: then new ones wait behind a button. A row that is told of again replaces itself where it is.
customElements.define("live-tail", class extends HTMLElement {
  connectedCallback() {
    this.said = 0;
    this.addEventListener("htmx:sse:after:message", () => this.take());
    this.addEventListener("click", (event) => { if (event.target.closest("[data-show]")) { scrollTo({ top: 0 }); this.take(true); } });
    this.addEventListener("mouseout", () => this.later());
    this.scrolled = () => this.later();
    addEventListener("scroll", this.scrolled, { passive: true });
  }
  disconnectedCallback() { removeEventListener("scroll", this.scrolled); }
  get reads() { return scrollY > 80 || this.querySelector(".table-box:hover") !== null; }
  later() { requestAnimationFrame(() => this.isConnected && this.take()); }
  take(asked = false) {
    const part = (name) => this.querySelector(`tbody[data-${name}]`), [waiting, running, ended] = ["waiting", "running", "ended"].map(part);
    if (!waiting) return;
    const holds = this.reads && !asked;
    for (const row of [...waiting.rows].reverse()) {
      const { told, request } = row.dataset;
      if (told === "whole") {
        const still = new Set(row.dataset.running.split(" "));
        for (const old of running.querySelectorAll("[data-told=start], tr:not([data-row])")) if (!still.has(old.dataset.request)) old.remove();
        row.remove();
        continue;
      }
      const others = [...this.querySelectorAll(`tr[data-request="${CSS.escape(request)}"]`)].filter((other) => other !== row);
      const shown = others.find((other) => !waiting.contains(other));
      if (shown?.getAttribute("aria-selected") === "true") row.setAttribute("aria-selected", "true");
      // What has ended leaves those that run in the order that it is told in, which after an absence is not the order of arrival.
      const stays = shown && (holds || told !== "end" || !running.contains(shown));
      if (told === "start" && others.some((other) => other.hasAttribute("data-row"))) row.remove();
      else if (stays) shown.replaceWith(row);
      else {
        others.forEach((other) => other.remove());
        if (!holds) (told === "end" ? ended : running).prepend(row);
      }
    }
    if (!holds) for (const row of [...running.querySelectorAll("[data-row]")].reverse()) ended.prepend(row);
    while (!holds && ended.rows.length > Number(this.getAttribute("most") ?? 200)) ended.lastElementChild.remove();
    const button = this.querySelector("[data-show]"), count = waiting.rows.length;
    button.hidden = count === 0;
    button.textContent = `${count} new · show`;
    if (count && performance.now() - this.said > 10000) { this.said = performance.now(); announce(`${count} new requests`); }
  }
});

customElements.define("running-time", class extends HTMLElement {
  connectedCallback() {
    const since = Number(this.getAttribute("since")) / 1000, show = () => { this.textContent = `${Math.max(0, Math.round((Date.now() - since) / 1000))} s`; };
    show();
    this.timer = setInterval(show, 1000);
  }
  disconnectedCallback() { clearInterval(this.timer); }
});

// The sheet is closed without asking the server; the address says so.
const closeSheet = () => {
  const url = new URL(location);
  for (const word of ["open", "tab"]) url.searchParams.delete(word);
  history.replaceState(history.state, "", url);
  document.getElementById("sheet").replaceChildren();
  document.querySelector("[data-row][aria-selected=true] a")?.focus();
};
customElements.define("sheet-close", class extends HTMLElement {
  connectedCallback() { this.addEventListener("click", (event) => { event.preventDefault(); closeSheet(); }); }
});
addEventListener("click", (event) => {
  const row = event.target.closest("[data-opens=sheet]")?.closest("[data-row]");
  if (!row) return;
  for (const other of document.querySelectorAll("[data-row][aria-selected]")) other.removeAttribute("aria-selected");
  row.setAttribute("aria-selected", "true");
});

// Search and go: arrows choose in the list, which the server fills as somebody types; Enter goes there.
customElements.define("command-palette", class extends HTMLElement {
  connectedCallback() {
    this.field = this.querySelector("input");
    this.list = this.querySelector("[role=listbox]");
    this.addEventListener("htmx:after:swap", () => this.choose(0));
    this.addEventListener("keydown", (event) => {
      const options = this.options, by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (by && options.length) {
        event.preventDefault();
        this.choose((options.indexOf(this.chosen) + by + options.length) % options.length);
      } else if (event.key === "Enter" && this.chosen) {
        event.preventDefault();
        this.chosen.click();
      }
    });
  }
  get options() { return [...this.list.querySelectorAll("a[role=option]")]; }
  get chosen() { return this.list.querySelector("[role=option][aria-selected=true]"); }
  choose(at) {
    this.chosen?.setAttribute("aria-selected", "false");
    const option = this.options[at];
    if (!option) { this.field.removeAttribute("aria-activedescendant"); return; }
    option.setAttribute("aria-selected", "true");
    option.scrollIntoView({ block: "nearest" });
    this.field.setAttribute("aria-activedescendant", option.id);
  }
});
const openPalette = () => {
  const dialog = document.getElementById("palette");
  if (!dialog || dialog.open) return false;
  dialog.showModal();
  dialog.querySelector("input").select();
  return true;
};
addEventListener("click", (event) => { if (event.target.closest("[data-palette]") && openPalette()) event.preventDefault(); });

// The playground: keys that send and stop, and the newest words in view as long as the reader is at the end.
customElements.define("play-ground", class extends HTMLElement {
  connectedCallback() {
    this.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.name === "prompt") {
        event.preventDefault();
        this.querySelector("[data-send]:not([disabled])")?.click();
      }
    });
    this.stop = (event) => { if (event.key === "Escape") this.querySelector("[data-stop]")?.click(); };
    addEventListener("keydown", this.stop);
    const conversation = this.querySelector(".conversation");
    this.watcher = new MutationObserver(() => {
      if (innerHeight + scrollY > document.documentElement.scrollHeight - 240) scrollTo({ top: document.documentElement.scrollHeight });
    });
    this.watcher.observe(conversation, { childList: true, subtree: true });
  }
  disconnectedCallback() {
    removeEventListener("keydown", this.stop);
    this.watcher.disconnect();
  }
});

// Forms: nothing typed is lost by a click beside it, or by a session that has ended meanwhile.
const draftKey = (form) => `draft:${location.pathname}:${form.getAttribute("action")}`;
const typed = (form) => [...new FormData(form)].filter(([name, value]) => {
  const field = form.elements[name];
  return typeof value === "string" && name !== "_csrf" && name !== "revision" && field?.type !== "password" && field?.autocomplete !== "one-time-code";
});
let dirty = null;
addEventListener("input", (event) => { if (event.target.form?.matches("[data-draft]") && event.target.form.method === "post") dirty = event.target.form; });
addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.matches("[data-draft]")) return;
  dirty = null;
  sessionStorage.setItem(draftKey(form), JSON.stringify(typed(form)));
});
addEventListener("beforeunload", (event) => { if (dirty?.isConnected) event.preventDefault(); });

const resume = () => {
  const notice = document.getElementById("resumed");
  for (const form of document.querySelectorAll("form[data-draft]")) {
    const kept = sessionStorage.getItem(draftKey(form));
    sessionStorage.removeItem(draftKey(form));
    if (!kept || !notice) continue;
    for (const [name, value] of JSON.parse(kept)) {
      const fields = form.querySelectorAll(`[name="${CSS.escape(name)}"]`);
      for (const field of fields) {
        if (field.type === "checkbox" || field.type === "radio") { if (field.value === value) field.checked = true; }
        else if (field.type !== "hidden") field.value = value;
      }
    }
    notice.textContent = "You had been signed out, so this was not saved. What you typed is here again: please save it.";
    form.prepend(notice);
    dirty = form;
  }
};

// What has the focus may go with a part of the page that is filled anew: then the focus stays with what was around it.
let around = [];
addEventListener("htmx:before:swap", () => {
  around = [];
  for (let at = document.activeElement; at && at !== document.body; at = at.parentElement) around.push(at);
});
addEventListener("htmx:after:swap", () => {
  if (!around.length || around[0].isConnected || document.activeElement !== document.body) return;
  const left = around.find((element) => element.isConnected);
  if (!left) return;
  if (!left.hasAttribute("tabindex") && left.tabIndex < 0) left.tabIndex = -1;
  left.focus({ preventScroll: true });
});

// Keys. Letters are left alone where somebody types, and altogether if they are switched off in the profile.
let going = false;
const rows = () => [...document.querySelectorAll("[data-row]")];
const step = (by) => {
  const all = rows(), now = all.findIndex((row) => row.getAttribute("aria-selected") === "true");
  const next = all[Math.min(Math.max(now + by, 0), all.length - 1)];
  if (!next) return;
  all[now]?.removeAttribute("aria-selected");
  next.setAttribute("aria-selected", "true");
  next.scrollIntoView({ block: "nearest" });
  const link = next.querySelector("a");
  if (document.querySelector("#sheet:not(:empty)") && link?.dataset.opens === "sheet") link.click(); else link?.focus();
};
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.querySelector("dialog[open], :popover-open")) {
    if (document.getElementById("sheet")?.childElementCount) closeSheet();
  }
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k" && !event.shiftKey && !event.altKey) {
    if (openPalette()) event.preventDefault();
    return;
  }
  if (document.documentElement.dataset.shortcuts === "off" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, [contenteditable], dialog")) return;
  if (going) {
    going = false;
    const link = document.querySelector(`[data-go="${CSS.escape(event.key)}"]`);
    if (link) { event.preventDefault(); link.click(); }
    return;
  }
  const act = {
    "g": () => { going = true; later(1500, () => { going = false; }); },
    "/": () => { const field = document.querySelector("[data-search]"); if (field) field.focus(); else openPalette(); },
    "?": () => document.getElementById("shortcuts")?.showModal(),
    "j": () => step(1),
    "k": () => step(-1),
    ".": () => document.querySelector("[data-toggle-live]")?.click(),
    "o": () => document.querySelector("[data-row][aria-selected=true] a")?.click(),
    "y": () => document.querySelector("main [data-copy], #sheet [data-copy]")?.click(),
    "c": () => document.querySelector("[data-create]")?.click(),
  }[event.key];
  if (act) { event.preventDefault(); act(); }
});

// Browsers without dialog commands get the same from here.
if (!("commandForElement" in HTMLButtonElement.prototype)) {
  addEventListener("click", (event) => {
    const button = event.target.closest("button[commandfor]"), dialog = button && document.getElementById(button.getAttribute("commandfor"));
    if (dialog) button.getAttribute("command") === "close" ? dialog.close() : dialog.showModal();
  });
}

resume();
