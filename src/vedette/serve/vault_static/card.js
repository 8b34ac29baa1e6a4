// Shows the vault's card form in a frame of the vault's own origin. Scripts of this page cannot read what is typed there.
(() => {
  "use strict";
  const vault = new URL(document.currentScript.src).origin;

  // Puts the form into `element`. `ticket` comes from your server. Answers {token, brand, last4, ...}, or rejects
  // with {code, message}; the form stays and may be sent again.
  function mount(element, ticket, { onCard, onError } = {}) {
    const frame = document.createElement("iframe");
    frame.src = `${vault}/frame`;
    frame.title = "Card details";
    frame.style.cssText = "border:0;width:100%;height:15rem";
    window.addEventListener("message", (event) => {
      if (event.source !== frame.contentWindow || event.origin !== vault) return;
      if (event.data.kind === "ready") frame.contentWindow.postMessage({ kind: "ticket", ticket }, vault);
      if (event.data.kind === "card" && onCard) onCard(event.data.card);
      if (event.data.kind === "error" && onError) onError(event.data.error);
    });
    element.append(frame);
    return frame;
  }

  window.VedetteCard = { mount };
})();
