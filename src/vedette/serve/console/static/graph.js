// Graphs of entities: every `[data-graph]` becomes one, drawn with Cytoscape in the colours of the tokens, with a list of
// the same links for who cannot see it.
"use strict";

(() => {
  const { all, make, one, charts } = window.vedette;
  const drawn = new Map();
  const SHAPES = { card: "round-rectangle", key: "diamond", ip: "ellipse", user: "ellipse", person: "ellipse", customer: "ellipse", merchant: "round-hexagon", account: "round-hexagon", device: "rectangle", host: "rectangle", email: "round-tag", alert: "triangle", event: "ellipse" };
  const risky = (risk) => (risk >= 80 ? "critical" : risk >= 60 ? "high" : risk >= 30 ? "medium" : "");

  let loading = null;
  function library() {
    loading ??= new Promise((resolve, reject) => {
      const script = make("script", { src: document.body.dataset.cytoscape });
      script.onload = () => resolve(window.cytoscape);
      script.onerror = reject;
      document.head.append(script);
    });
    return loading;
  }

  function style() {
    const { token } = charts;
    return [
      {
        selector: "node",
        style: {
          label: "data(label)",
          shape: (node) => SHAPES[node.data("kind")] || "ellipse",
          width: (node) => (node.data("root") ? 30 : 20),
          height: (node) => (node.data("root") ? 30 : 20),
          "background-color": (node) => token(node.data("root") ? "accent" : risky(node.data("risk")) || "line-control"),
          "border-width": 2,
          "border-color": token("surface"),
          color: token("ink"),
          "font-size": 10,
          "font-family": getComputedStyle(document.body).fontFamily,
          "text-valign": "bottom",
          "text-margin-y": 4,
          "text-max-width": 110,
          "text-wrap": "ellipsis",
          "text-outline-color": token("surface"),
          "text-outline-width": 2,
        },
      },
      {
        selector: "edge",
        style: {
          width: (edge) => Math.min(6, 1 + Math.log2(edge.data("weight") || 1) / 2),
          "line-color": token("line-strong"),
          "curve-style": "bezier",
          label: "data(label)",
          color: token("ink-faint"),
          "font-size": 9,
          "text-background-color": token("surface"),
          "text-background-opacity": 0.85,
          "text-background-padding": 2,
        },
      },
      { selector: "node:active, node:selected", style: { "border-color": token("accent") } },
    ];
  }

  const elements = (data) => [
    ...data.nodes.map((node) => ({ data: { ...node, label: node.label || node.id } })),
    ...data.edges.map((edge, at) => ({ data: { id: `edge-${at}`, source: edge.from, target: edge.to, label: edge.label || "", weight: edge.weight || 1 } })),
  ];

  function list(data) {
    const names = new Map(data.nodes.map((node) => [node.id, node]));
    const link = (id) => {
      const node = names.get(id);
      return node?.url ? make("a", { href: node.url }, node.label || id) : make("span", {}, node?.label || id);
    };
    const row = (edge) => make("tr", {}, make("td", {}, link(edge.from)), make("td", {}, edge.label || ""), make("td", {}, link(edge.to)), make("td", { class: "num" }, String(edge.weight || 1)));
    const head = ["from", "link", "to", "times"].map((text, at) => make("th", { scope: "col", ...(at === 3 ? { class: "num" } : {}) }, text));
    return make("table", { class: "table" }, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...data.edges.map(row)));
  }

  async function draw(figure) {
    const state = drawn.get(figure);
    const plot = one(".chart-plot", figure);
    state.graph?.destroy();
    state.graph = null;
    plot.replaceChildren();
    if (!state.data.nodes?.length) {
      plot.removeAttribute("role");
      plot.append(make("p", { class: "chart-none" }, "Nothing is linked."));
      return;
    }
    if (figure.dataset.shown === "table") {
      plot.setAttribute("role", "region");
      plot.tabIndex = 0;
      plot.append(list(state.data));
      return;
    }
    plot.setAttribute("role", "img");
    plot.removeAttribute("tabindex");
    const cytoscape = await library();
    // It would add a style sheet of its own, which the policy of the page refuses; one of that id is enough for it.
    if (!document.getElementById("__________cytoscape_stylesheet")) document.head.append(make("meta", { id: "__________cytoscape_stylesheet" }));
    state.graph = cytoscape({
      container: plot,
      elements: elements(state.data),
      style: style(),
      // The same data is laid out the same way each time: no random start.
      layout: { name: "cose", animate: false, randomize: false, padding: 24, nodeRepulsion: () => 9000, idealEdgeLength: () => 70 },
      // A page scrolls past a graph; it zooms by its buttons and by pinching.
      userZoomingEnabled: matchMedia("(pointer: coarse)").matches,
      minZoom: 0.3,
      maxZoom: 3,
      autoungrabify: false,
    });
    state.graph.on("tap", "node", (event) => {
      const url = event.target.data("url");
      if (url) location.assign(url);
    });
  }

  function button(label, text, act) {
    const made = make("button", { class: "icon-button icon-button-small", type: "button", "aria-label": label, title: label }, text);
    made.addEventListener("click", act);
    return made;
  }

  function start(figure) {
    if (drawn.has(figure)) return;
    const state = { data: JSON.parse(figure.dataset.graph) };
    drawn.set(figure, state);
    const zoom = (factor) => state.graph?.zoom({ level: state.graph.zoom() * factor, renderedPosition: { x: figure.clientWidth / 2, y: figure.clientHeight / 2 } });
    if (state.data.nodes?.length) {
      figure.append(
        make(
          "div",
          { class: "chart-switch" },
          button("Closer", "+", () => zoom(1.3)),
          button("Further", "\u2212", () => zoom(1 / 1.3)),
          button("Show as a table", "\u2261", () => {
            if (figure.dataset.shown === "table") delete figure.dataset.shown;
            else figure.dataset.shown = "table";
            draw(figure);
          }),
        ),
      );
    }
    draw(figure);
  }

  function scan() {
    for (const [figure, state] of drawn) {
      if (!figure.isConnected) {
        state.graph?.destroy();
        drawn.delete(figure);
      }
    }
    all("[data-graph]").forEach(start);
  }

  document.addEventListener("vedette:content", scan);
  document.addEventListener("vedette:theme", () => drawn.forEach((state) => state.graph?.style(style())));
  scan();
})();
