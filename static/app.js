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
    if (form === "clock") this.time.textContent = date.toLocaleTimeString("en-GB");
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
    const start = () => { this.timer = later(seconds * 1000, () => this.remove()); };
    for (const event of ["mouseenter", "focusin"]) this.addEventListener(event, () => clearTimeout(this.timer));
    for (const event of ["mouseleave", "focusout"]) this.addEventListener(event, start);
    start();
  }
  disconnectedCallback() { clearTimeout(this.timer); }
});

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

customElements.define("live-feed", class extends HTMLElement {
  connectedCallback() {
    const words = { connecting: "Connecting…", live: "● Live", reconnecting: "◌ Reconnecting…", ended: "– Ended" };
    const pill = this.querySelector("[data-state]");
    const say = (state) => { if (this.getAttribute("state") !== "ended") { this.setAttribute("state", state); pill.textContent = words[state]; } };
    this.addEventListener("htmx:before:sse:connection", () => say(this.getAttribute("state") === "connecting" ? "connecting" : "reconnecting"));
    for (const name of ["htmx:after:sse:connection", "htmx:after:sse:message"]) this.addEventListener(name, () => say("live"));
    for (const name of ["htmx:sse:error", "htmx:error"]) this.addEventListener(name, () => say("reconnecting"));
    this.addEventListener("end", () => say("ended"));
    this.addEventListener("htmx:sse:close", () => say("ended"));
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
  const resuming = new URLSearchParams(location.search).has("resume");
  for (const form of document.querySelectorAll("form[data-draft]")) {
    const kept = sessionStorage.getItem(draftKey(form));
    sessionStorage.removeItem(draftKey(form));
    if (!kept || !resuming) continue;
    for (const [name, value] of JSON.parse(kept)) {
      const fields = form.querySelectorAll(`[name="${CSS.escape(name)}"]`);
      for (const field of fields) {
        if (field.type === "checkbox" || field.type === "radio") { if (field.value === value) field.checked = true; }
        else if (field.type !== "hidden") field.value = value;
      }
    }
    const notice = document.createElement("div");
    notice.className = "notice warn";
    notice.setAttribute("role", "alert");
    notice.textContent = "You had been signed out, so this was not saved. What you typed is here again: please save it.";
    form.prepend(notice);
    dirty = form;
  }
};

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
    const sheet = document.getElementById("sheet");
    if (sheet?.childElementCount) { sheet.replaceChildren(); document.querySelector("[data-row][aria-selected=true] a")?.focus(); }
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
    "/": () => document.querySelector("[data-search]")?.focus(),
    "?": () => document.getElementById("shortcuts")?.showModal(),
    "j": () => step(1),
    "k": () => step(-1),
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
