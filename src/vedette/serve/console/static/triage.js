// The queue by keyboard: what is picked, or else the row under the cursor, is what an action acts on; afterwards the
// cursor stands where it stood, on the next alert. Undo is a toast, for as long as the server takes changes back.
"use strict";

(() => {
  const { all, moveTo, one, toast } = window.vedette;
  const rows = () => all("[data-rows] > *:not([data-rows-skip])");
  let place = -1;

  const picked = () => all("[data-rows] [data-select]:checked");
  const under = () => rows().findIndex((row) => row.classList.contains("cursor"));

  // Without a pick the cursor's row is meant; on the page of one alert there is nothing to pick.
  function choose() {
    if (one("[data-one]") || picked().length) return true;
    const row = rows()[under()];
    const box = row && one("[data-select]", row);
    if (!box) {
      toast("Choose an alert first: j and k move, x picks.");
      return false;
    }
    box.checked = true;
    return true;
  }

  function send(what) {
    const form = one("#change");
    if (!form || !choose()) return;
    const first = rows().findIndex((row) => one("[data-select]:checked", row));
    place = under() >= 0 ? Math.min(under(), first < 0 ? Infinity : first) : first;
    one('input[name="do"]', form).value = what;
    form.requestSubmit();
  }

  document.addEventListener("click", (event) => {
    const act = event.target.closest("[data-do]");
    if (act) {
      one("#verdict[open]")?.close();
      send(act.dataset.do);
      return;
    }
    if (event.target.closest("[data-resolve]") && choose()) {
      const dialog = one("#verdict");
      dialog.showModal();
      one("[data-pick]", dialog).focus();
      return;
    }
    const link = event.target.closest("#alert-rows a[data-open]");
    if (link) sessionStorage.setItem("vedette:alert", link.closest("tr").dataset.id);
  });

  document.addEventListener("keydown", (event) => {
    const dialog = one("#verdict[open]");
    if (!dialog || event.ctrlKey || event.metaKey || event.altKey) return;
    const button = one(`[data-pick="${CSS.escape(event.key)}"]`, dialog);
    if (!button) return;
    event.preventDefault();
    button.click();
  });

  // A toast of its own kind: the page brings it, this puts it among the others and takes it away in time.
  function settle() {
    const shown = one("[data-undo-toast]");
    if (!shown || shown.parentElement?.matches(".toasts")) return;
    all(".toasts [data-undo-toast]").forEach((old) => old.remove());
    one(".toasts").append(shown);
    setTimeout(() => shown.remove(), Math.min(20, Number(shown.dataset.seconds)) * 1000);
  }

  document.addEventListener("htmx:afterSettle", () => {
    settle();
    if (place >= 0 && rows().length) moveTo(place);
    place = -1;
  });

  // Back from an alert: the cursor stands on it again.
  function recall() {
    settle();
    const id = sessionStorage.getItem("vedette:alert");
    const at = id && one("#queue") ? rows().findIndex((row) => row.dataset.id === id) : -1;
    if (at >= 0) moveTo(at);
  }

  recall();
})();
