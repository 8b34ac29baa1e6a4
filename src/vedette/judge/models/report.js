// Draws the charts of a model's report from the JSON beside it. Names in the data are text wherever they stand.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("evaluation").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const ink = dark ? "#c9d1d9" : "#30363d";
  const line = dark ? "#30363d" : "#d8dee4";
  const colors = ["#2f81f7", "#d29922", "#3fb950", "#f85149", "#a371f7", "#39c5cf"];
  const escape = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
  const axis = (name, more) => ({
    type: "value", name, nameLocation: "middle", nameGap: 28, nameTextStyle: { color: ink },
    axisLabel: { color: ink }, splitLine: { lineStyle: { color: line } }, ...more,
  });
  const draw = (id, option) => {
    const place = document.getElementById(id);
    if (!place || !window.echarts) return;
    const chart = echarts.init(place);
    chart.setOption({
      color: colors, animation: false, textStyle: { color: ink },
      grid: { left: 64, right: 24, top: 36, bottom: 48 },
      legend: { top: 0, textStyle: { color: ink } },
      tooltip: { trigger: "item", confine: true, formatter: (p) => escape(p.seriesName) + "<br>" + (p.data.value || p.data).map((v) => Number(v).toPrecision(4)).join(", ") },
      ...option,
    });
    addEventListener("resize", () => chart.resize());
  };
  const curve = (name, points, more) => ({ name, type: "line", showSymbol: false, data: points, ...more });
  const base = data.test.base_rate;
  draw("pr", {
    xAxis: axis("recall", { min: 0, max: 1 }), yAxis: axis("precision", { min: 0, max: 1, nameGap: 40 }),
    series: [curve("model", data.curve.map((p) => [p[0], p[1]])), curve("all genuine (base rate)", [[0, base], [1, base]], { lineStyle: { type: "dashed" } })],
  });
  draw("money", {
    xAxis: axis("share of genuine payments stopped", { min: 0 }), yAxis: axis("saved", { nameGap: 50 }),
    series: [curve("saved", data.money.curve.map((p) => [p[0], p[1] / 100]))],
  });
  const bins = data.reliability.bins;
  const most = Math.max(0.01, ...bins.map((b) => Math.max(b.score, b.fraud)));
  draw("reliability", {
    xAxis: axis("mean score", { type: "log", min: 0.00001, max: 1 }), yAxis: axis("share of fraud", { type: "log", min: 0.00001, max: 1, nameGap: 44 }),
    series: [
      { name: "bins", type: "scatter", symbolSize: 9, data: bins.filter((b) => b.score > 0 && b.fraud > 0).map((b) => [b.score, b.fraud]) },
      curve("calibrated", [[0.00001, 0.00001], [1, 1]], { lineStyle: { type: "dashed" } }),
    ],
  });
  draw("candidates", {
    xAxis: axis("p99 of a score with its contributions, µs", { min: 0 }), yAxis: axis("average precision", { nameGap: 40, scale: true }),
    series: data.candidates.map((c) => ({ name: `${c.learner} ${c.id}`, type: "scatter", symbolSize: 14, data: [[c.p99_us, c.ap.value]] })),
  });
})();
