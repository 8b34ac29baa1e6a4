// Pages that ask again by themselves. An element with `data-live="/address"` and `data-every="5"` asks for its htmx
// fragment; each `[data-part]` in the answer replaces the part of the same id, and charts take the new data.
"use strict";

(() => {
  const { all, charts, offline, one, tellTimes } = window.vedette;

  function start(root) {
    let paused = false;
    let last = Date.now();
    let asking = false;

    async function ask() {
      asking = true;
      try {
        const answer = await fetch(root.dataset.live, { headers: { "hx-request": "true", "x-background": "1", "hx-current-url": location.href } });
        const elsewhere = answer.headers.get("hx-redirect");
        if (elsewhere) location.assign(elsewhere);
        if (!answer.ok) return;
        offline(false);
        take(await answer.text());
        last = Date.now();
      } catch {
        offline(true);
      } finally {
        asking = false;
      }
    }

    function take(text) {
      const fresh = new DOMParser().parseFromString(text, "text/html");
      for (const part of all("[data-part]", fresh)) {
        const held = document.getElementById(part.id);
        // Nothing is taken from under a visitor's hands.
        if (!held || held.contains(document.activeElement) || held.innerHTML === part.innerHTML) continue;
        held.replaceChildren(...document.adoptNode(part).childNodes);
        held.hidden = part.hidden;
        tellTimes(held);
      }
      for (const figure of all("[data-chart]", fresh)) {
        const held = document.getElementById(figure.id);
        if (!held || held.dataset.chart === figure.dataset.chart) continue;
        held.dataset.chart = figure.dataset.chart;
        charts.update(figure.id.slice("chart-".length), JSON.parse(figure.dataset.chart));
      }
    }

    function tell() {
      const seconds = Math.round((Date.now() - last) / 1000);
      const text = paused ? "Paused" : seconds < 15 ? "Live" : `${seconds} s old`;
      all("[data-live-age]", root).forEach((each) => (each.textContent = text));
      root.classList.toggle("is-paused", paused);
      root.classList.toggle("is-old", !paused && seconds >= 15);
    }

    root.addEventListener("click", (event) => {
      const button = event.target.closest("[data-live-pause]");
      if (!button) return;
      paused = !paused;
      button.setAttribute("aria-pressed", String(paused));
      button.setAttribute("aria-label", paused ? "Go on with updates" : "Pause updates");
      one("use", button)?.setAttribute("href", `${document.body.dataset.icons}#${paused ? "play" : "pause"}`);
      tell();
      if (!paused) ask();
    });
    setInterval(() => paused || asking || document.hidden || ask(), 1000 * Number(root.dataset.every || 5));
    setInterval(tell, 1000);
  }

  all("[data-live]").forEach(start);
})();
