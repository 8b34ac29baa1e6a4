// The card form. What is typed goes to the vault that served this page, and only the token leaves it again.
(() => {
  "use strict";
  const form = document.getElementById("form");
  const said = document.getElementById("said");
  const button = form.querySelector("button");
  let ticket = null;
  let page = null;

  window.addEventListener("message", (event) => {
    if (event.source !== window.parent || event.data.kind !== "ticket" || ticket !== null) return;
    ticket = event.data.ticket;
    page = event.origin;
  });

  function tell(message) {
    window.parent.postMessage(message, page);
  }

  function year(text) {
    const number = Number(text);
    return text.length <= 2 ? 2000 + number : number;
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (ticket === null) return;
    button.disabled = true;
    said.textContent = "";
    const card = {
      number: form.number.value,
      exp_month: Number(form.month.value),
      exp_year: year(form.year.value),
      page,
    };
    try {
      const answer = await fetch("/v1/cards", {
        method: "POST",
        headers: { authorization: `Bearer ${ticket}`, "content-type": "application/json" },
        body: JSON.stringify(card),
        redirect: "error",
        credentials: "omit",
        referrerPolicy: "no-referrer",
      });
      const body = await answer.json();
      if (answer.ok) {
        form.number.value = "";
        said.textContent = `Saved: ${body.brand} ending in ${body.last4}`;
        tell({ kind: "card", card: body });
        return;
      }
      said.textContent = "Please check the card details.";
      tell({ kind: "error", error: { code: body.error.code, message: body.error.message } });
    } catch {
      said.textContent = "The card could not be saved. Please try again.";
      tell({ kind: "error", error: { code: "vault.unreachable", message: "the vault did not answer" } });
    }
    button.disabled = false;
  });

  window.parent.postMessage({ kind: "ready" }, "*");
})();
