// Behaviour that every page has: keyboard, theme, times, dialogs, toasts, and what htmx does while it waits or fails.
// Markup asks for it with data attributes; docs/console.md lists them.
"use strict";

(() => {
  const root = document.documentElement;
  const one = (selector, from = document) => from.querySelector(selector);
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const make = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };

  // Theme: what the visitor chose is a cookie, so that the server writes it into the page and nothing flashes.

  const theme = () =>
    root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");

  function setTheme(name) {
    root.dataset.theme = name;
    document.cookie = `vedette_theme=${name}; path=/; max-age=31536000; samesite=strict`;
    document.dispatchEvent(new CustomEvent("vedette:theme", { detail: name }));
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    if (!root.dataset.theme) document.dispatchEvent(new CustomEvent("vedette:theme", { detail: theme() }));
  });

  // Times: the page has them in UTC; the visitor reads them in their own zone, UTC stays in the title.

  const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
  const year = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
  // An installation may run on a clock of its own: times are told against the page's clock, not the browser's.

  function ago(milliseconds) {
    const seconds = Math.abs(Math.trunc(milliseconds / 1000));
    const [size, unit] = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]].find(([each]) => seconds >= each) || [0, ""];
    if (!size) return "now";
    const text = `${Math.trunc(seconds / size)}\u00a0${unit}`;
    return milliseconds >= 0 ? `${text} ago` : `in ${text}`;
  }

  function tellTimes(from = document) {
    for (const time of all("time[data-when]", from)) {
      const at = new Date(time.dateTime);
      const now = new Date();
      const date = (at.getFullYear() === now.getFullYear() ? day : year).format(at);
      time.textContent = `${date}, ${clock.format(at)}`;
    }
    for (const time of all("time[data-ago]", from)) {
      const asked = Date.parse(time.dataset.ago) + (Date.now() - (time.vedetteSeen ??= Date.now()));
      time.textContent = ago(asked - Date.parse(time.dateTime));
    }
  }

  // Toasts

  function toast(text, tone = "note") {
    const shown = make("div", { class: `toast toast-${tone}` }, make("span", {}, text));
    const close = make("button", { class: "icon-button icon-button-small", type: "button", "aria-label": "Dismiss" }, "×");
    close.addEventListener("click", () => shown.remove());
    shown.append(close);
    one(".toasts")?.append(shown);
    setTimeout(() => shown.remove(), tone === "bad" ? 12000 : 5000);
  }

  // Confirmation: a form with `data-confirm` asks first. Without this script it just posts.

  function ask(text, { label = "Continue", kind = "primary" } = {}) {
    const dialog = one("#confirm");
    one("#confirm-text").textContent = text;
    const yes = one('button[value="yes"]', dialog);
    yes.textContent = label;
    yes.className = `button button-${kind === "danger" ? "danger" : "primary"}`;
    dialog.returnValue = "";
    dialog.showModal();
    return new Promise((resolve) => {
      dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
    });
  }

  document.addEventListener(
    "submit",
    (event) => {
      const form = event.target;
      if (!form.dataset.confirm || form.dataset.confirmed) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      const { submitter } = event;
      ask(form.dataset.confirm, { label: form.dataset.confirmLabel, kind: form.dataset.confirmKind }).then((yes) => {
        if (!yes) return;
        form.dataset.confirmed = "yes";
        form.requestSubmit(submitter);
        delete form.dataset.confirmed;
      });
    },
    true,
  );

  document.addEventListener("htmx:confirm", (event) => {
    if (!event.detail.question) return;
    event.preventDefault();
    ask(event.detail.question).then((yes) => yes && event.detail.issueRequest(true));
  });

  // A form is sent once: the second click of a double click finds its button asleep.
  document.addEventListener("submit", (event) => {
    if (event.defaultPrevented || event.target.method !== "post" || event.target.dataset.again) return;
    const buttons = all('button[type="submit"]', event.target);
    setTimeout(() => buttons.forEach((button) => (button.disabled = true)));
    setTimeout(() => buttons.forEach((button) => (button.disabled = false)), 4000);
  });

  addEventListener("pageshow", (event) => {
    if (event.persisted) all('form button[type="submit"]:disabled').forEach((button) => (button.disabled = false));
  });

  // What htmx tells: a line while it waits, a toast when it fails, times and rows in what came.

  let waiting = 0;
  const busy = (change) => root.classList.toggle("busy", (waiting = Math.max(0, waiting + change)) > 0);
  const quiet = (event) => event.detail.elt?.closest?.("[data-quiet]");

  document.addEventListener("htmx:beforeRequest", (event) => quiet(event) || busy(1));
  document.addEventListener("htmx:afterRequest", (event) => quiet(event) || busy(-1));
  document.addEventListener("htmx:afterSwap", (event) => {
    tellTimes(event.target);
    document.dispatchEvent(new CustomEvent("vedette:content", { detail: event.target }));
  });
  document.addEventListener("htmx:responseError", (event) => {
    const { status } = event.detail.xhr;
    const told = { 403: "You may not do this.", 404: "It is not there any more.", 409: "Somebody was first: reload to see.", 429: "Too many requests: wait a moment." };
    toast(told[status] || `That did not work (${status}).`, "bad");
  });
  document.addEventListener("htmx:sendError", () => offline(true));
  document.addEventListener("htmx:timeout", () => toast("The server takes too long to answer.", "bad"));

  // Offline is a state of the page, not an event: one notice that stays until the server answers again.

  let lost = null;
  function offline(is) {
    root.classList.toggle("offline", is);
    if (is && !lost) {
      lost = make("div", { class: "offline-note", role: "alert" }, "The server does not answer. What you see may be old; trying again.");
      document.body.append(lost);
      const retry = setInterval(async () => {
        try {
          await fetch("/healthz", { cache: "no-store" });
          clearInterval(retry);
          offline(false);
          toast("Connected again.", "good");
        } catch {
          // Still not there: the next turn asks again.
        }
      }, 3000);
    } else if (!is) {
      lost?.remove();
      lost = null;
    }
  }

  addEventListener("offline", () => offline(true));

  // Keyboard

  const rows = () => all("[data-rows] > *:not([data-rows-skip])");
  let place = -1;

  function moveTo(index, from = rows()) {
    if (!from.length) return;
    place = Math.max(0, Math.min(from.length - 1, index));
    from.forEach((row, at) => {
      row.classList.toggle("cursor", at === place);
      if (at === place) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    });
    const link = one("[data-open], a[href]", from[place]) || from[place];
    link.focus({ preventScroll: true });
    from[place].scrollIntoView({ block: "nearest" });
  }

  const current = () => {
    const from = rows();
    const at = from.findIndex((row) => row.classList.contains("cursor"));
    return at < 0 ? null : from[at];
  };

  function pick(row) {
    const box = row && one("[data-select], input[type=checkbox]", row);
    if (box) box.click();
  }

  const shown = (element) => element.offsetParent !== null || getComputedStyle(element).position === "fixed";

  function press(key) {
    // What the page itself offers goes before the frame: `/` on a list searches that list.
    const target = [...all("main [data-key]"), ...all("[data-key]")].find((each) => each.dataset.key === key && (shown(each) || each.matches("[data-key-hidden]")));
    if (!target || target.disabled) return false;
    if (target.matches("input:not([type=checkbox], [type=radio], [type=submit]), textarea, select")) {
      target.focus();
      target.select?.();
    } else {
      target.focus({ preventScroll: true });
      target.click();
    }
    return true;
  }

  let going = 0;

  function go(key) {
    const link = one(`[data-go="${CSS.escape(key)}"]`);
    if (link) location.assign(link.href);
    return Boolean(link);
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const typing = event.target.closest?.("input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]");
    if (event.key === "Escape") {
      if (typing) event.target.blur();
      all("details.menu[open]").forEach((menu) => (menu.open = false));
      return;
    }
    if (typing || one("dialog[open]")) return;
    const at = rows().indexOf(current());
    let done = true;
    if (going && Date.now() - going < 1500) {
      going = 0;
      done = go(event.key);
    } else if (event.key === "g") going = Date.now();
    else if (event.key === "j") moveTo(at + 1);
    else if (event.key === "k") moveTo(at < 0 ? 0 : at - 1);
    else if (event.key === "x" && current()) pick(current());
    else if ((event.key === "o" || (event.key === "Enter" && event.target.matches("body, main, tr, li"))) && current()) {
      (one("[data-open]", current()) || one("a[href]", current()))?.click();
    } else done = press(event.key);
    if (done) event.preventDefault();
  }

  document.addEventListener("keydown", onKey);

  document.addEventListener("change", (event) => {
    const box = event.target;
    if (!box.matches?.("[data-rows] [data-select]")) return;
    box.closest("[data-rows] > *").classList.toggle("picked", box.checked);
    const picked = all("[data-rows] [data-select]:checked").length;
    all("[data-picked]").forEach((each) => (each.textContent = String(picked)));
    all("[data-when-picked]").forEach((each) => (each.hidden = !picked));
  });

  function showHelp() {
    const list = one("#help .help-keys");
    const entry = (keys, label) => make("p", {}, make("span", {}, label), make("span", {}, ...keys.map((key) => make("kbd", {}, key))));
    list.replaceChildren();
    if (rows().length) {
      list.append(entry(["j", "k"], "Next and previous row"), entry(["o", "↵"], "Open the row"));
      if (one("[data-rows] [data-select]")) list.append(entry(["x"], "Select the row"));
    }
    for (const each of all("[data-key]")) {
      if (shown(each) || each.matches("[data-key-hidden]")) list.append(entry([each.dataset.key], each.dataset.keyLabel || each.getAttribute("aria-label") || each.textContent.trim()));
    }
    for (const link of all(".side [data-go]")) list.append(entry(["g", link.dataset.go], `Go to ${one("span", link).textContent}`));
    list.append(entry(["Esc"], "Close, or leave a field"));
    one("#help").showModal();
  }

  // Clicks that markup asks for

  const clicks = {
    "[data-theme-toggle]": () => setTheme(theme() === "dark" ? "light" : "dark"),
    "[data-help]": showHelp,
    "[data-drawer]": () => one("#drawer").showModal(),
    "[data-back]": () => history.back(),
    "[data-print]": () => print(),
    "[data-copy]": async (button) => {
      const text = button.dataset.copy || one("pre", button.parentElement)?.textContent || "";
      try {
        await navigator.clipboard.writeText(text);
        toast("Copied.", "good");
      } catch {
        toast("The browser did not let this be copied.", "bad");
      }
    },
    "[data-reveal]": (button) => {
      const target = document.getElementById(button.dataset.reveal);
      target.hidden = !target.hidden;
      button.setAttribute("aria-expanded", String(!target.hidden));
      if (!target.hidden) one("input, textarea, select, button", target)?.focus();
    },
  };

  document.addEventListener("click", (event) => {
    for (const [selector, act] of Object.entries(clicks)) {
      const found = event.target.closest(selector);
      if (found) act(found);
    }
    // A click outside closes menus; a click on the veil closes a dialog.
    all("details.menu[open]").forEach((menu) => menu.contains(event.target) || (menu.open = false));
    if (event.target.matches?.("dialog.dialog[open]")) {
      const box = event.target.getBoundingClientRect();
      const inside = event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom;
      if (!inside) event.target.close();
    }
  });

  document.addEventListener("change", (event) => {
    if (event.target.matches?.("[data-submit]")) event.target.form?.requestSubmit();
  });

  window.vedette = { all, ask, make, moveTo, offline, one, tellTimes, theme, toast };

  tellTimes();
  setInterval(() => tellTimes(), 10_000);
})();
