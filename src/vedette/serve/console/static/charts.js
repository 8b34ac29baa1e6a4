// Charts from data: every `[data-chart]` becomes one, drawn with ECharts in the colours of the tokens, and a table of the
// same numbers for who cannot see it. docs/console.md says what the data looks like.
"use strict";

(() => {
  const { all, make, one } = window.vedette;
  const drawn = new Map();
  const SHORT = 4;
  const MEANINGS = new Set("allow challenge review block informational low medium high critical good warn bad note".split(" "));

  // Colours

  const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const colorOf = (series, index) => {
    const name = series.color || (MEANINGS.has(series.name) ? series.name : `series-${(index % 6) + 1}`);
    return token(name);
  };

  // Numbers and times, as the rest of the console writes them

  const number = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
  const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
  const hour = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const second = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  const dayOf = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
  const moment = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const words = (text) => String(text).replaceAll("_", " ");
  const withUnit = (value, unit) => (value == null ? "–" : `${number.format(value)}${unit ? `\u00a0${unit}` : ""}`);
  const isTime = (data) => data.time === true;
  const label = (data, value) => (isTime(data) ? moment.format(new Date(value / 1000)) : words(value));

  const tooltips = (rows) =>
    make(
      "div",
      { class: "tip" },
      ...rows.map(([name, value, color]) => {
        const line = make("p", {}, make("span", {}, name), make("b", {}, value));
        if (color) {
          const dot = make("i", {});
          dot.style.background = color;
          line.prepend(dot);
        }
        return line;
      }),
    );

  // What all kinds share

  function frame(extra = {}) {
    const text = { color: token("ink-faint"), fontSize: 11, fontFamily: getComputedStyle(document.body).fontFamily };
    return {
      animation: !matchMedia("(prefers-reduced-motion: reduce)").matches,
      animationDuration: 250,
      textStyle: { fontFamily: text.fontFamily },
      grid: { left: 4, right: 10, top: 26, bottom: 2, containLabel: true },
      tooltip: {
        trigger: "axis",
        confine: true,
        backgroundColor: token("surface-raised"),
        borderColor: token("line"),
        padding: 0,
        textStyle: { color: token("ink"), fontSize: 12 },
        axisPointer: { type: "line", lineStyle: { color: token("line-strong") }, shadowStyle: { color: token("surface-hover"), opacity: 0.6 } },
      },
      legend: {
        top: 0,
        left: 0,
        right: 32,
        type: "scroll",
        icon: "roundRect",
        itemWidth: 9,
        itemHeight: 9,
        itemGap: 12,
        textStyle: { ...text, color: token("ink-soft") },
        pageTextStyle: text,
        pageIconColor: token("ink-soft"),
        pageIconInactiveColor: token("line-strong"),
        formatter: (name) => (name === "informational" ? "info" : words(name)),
      },
      ...extra,
    };
  }

  const axisText = () => ({ color: token("ink-faint"), fontSize: 11 });
  const valueAxis = (data, more = {}) => ({
    type: "value",
    name: data.unit || "",
    nameTextStyle: { ...axisText(), align: "left", padding: [0, 0, 0, -24] },
    minInterval: data.whole === false ? undefined : data.unit ? undefined : 1,
    max: data.max,
    splitNumber: 4,
    axisLabel: { ...axisText(), formatter: (value) => short.format(value) },
    splitLine: { lineStyle: { color: token("line") } },
    ...more,
  });
  // Labels of a time axis are as fine as its range asks for, so that no two of them are the same.
  function axisTime(data) {
    const range = (data.x.at(-1) - data.x[0]) / 1e6;
    const format = range < 900 ? second : range < 3 * 86400 ? hour : dayOf;
    return (value) => format.format(new Date(value));
  }
  const placeAxis = (data, more = {}) => ({
    type: isTime(data) ? "time" : "category",
    data: isTime(data) ? undefined : data.x,
    boundaryGap: data.kind === "bars" ? undefined : false,
    axisLine: { lineStyle: { color: token("line-strong") } },
    axisTick: { show: false },
    axisLabel: { ...axisText(), hideOverlap: true, formatter: isTime(data) ? axisTime(data) : words },
    splitLine: { show: false },
    ...more,
  });
  const points = (data, values) => (isTime(data) ? values.map((value, at) => [data.x[at] / 1000, value]) : values);
  const plain = (param) => (Array.isArray(param.value) ? param.value[1] : param.value);

  const overTime = (data, toSeries) => {
    const option = frame();
    const single = data.series.length < 2;
    option.grid.top = single ? 26 : 32;
    option.legend.show = !single;
    option.tooltip.axisPointer.type = data.kind === "bars" ? "shadow" : "line";
    option.tooltip.formatter = (params) => {
      const at = isTime(data) ? params[0].value[0] * 1000 : params[0].axisValue;
      const rows = params.filter((each) => plain(each) != null).map((each) => [words(each.seriesName), withUnit(plain(each), data.unit), each.color]);
      return tooltips([[label(data, at), ""], ...rows]);
    };
    option.xAxis = placeAxis(data);
    option.yAxis = valueAxis(data, single ? {} : { name: "" });
    // A short unit stands at each label, a long one once above the axis.
    if (data.unit && !single && data.unit.length <= SHORT) option.yAxis.axisLabel.formatter = (value) => withUnit(Number(value), data.unit);
    else if (data.unit) {
      Object.assign(option.yAxis, { name: data.unit, nameGap: 8 });
      option.grid.top += single ? 0 : 16;
    }
    option.series = data.series.map((series, index) => ({
      name: series.name,
      data: points(data, series.data),
      color: colorOf(series, index),
      emphasis: { focus: "none" },
      ...toSeries(series),
    }));
    return option;
  };

  const kinds = {
    // Lines over time or over ordered places.
    lines: (data) => overTime(data, () => ({ type: "line", showSymbol: false, lineStyle: { width: 1.6 }, connectNulls: data.connect === true })),

    // Parts of a whole over time, one on the other.
    area: (data) =>
      overTime(data, () => ({ type: "line", stack: "all", showSymbol: false, lineStyle: { width: 0.8 }, areaStyle: { opacity: 0.72 } })),

    // Counts by step or place; several series stand on each other.
    bars: (data) => overTime(data, () => ({ type: "bar", stack: data.side ? undefined : "all", barCategoryGap: data.x.length > 60 ? "8%" : "22%", barMaxWidth: 26 })),

    // Things in order of size, each with its name.
    ranks: (data) => {
      const option = frame({ grid: { left: 4, right: 44, top: 22, bottom: 0, containLabel: true } });
      const unit = data.unit && data.unit.length <= SHORT ? data.unit : "";
      option.legend.show = data.series.length > 1;
      if (option.legend.show) option.grid.top = 28;
      option.tooltip.axisPointer.type = "shadow";
      option.tooltip.formatter = (params) =>
        tooltips([[words(params[0].name), ""], ...params.map((each) => [words(each.seriesName), withUnit(each.value, data.unit), each.color])]);
      option.xAxis = { ...valueAxis(data, { name: "" }), axisLabel: { show: false }, splitLine: { show: false } };
      option.yAxis = {
        type: "category",
        inverse: true,
        data: data.x,
        axisLine: { show: false },
        axisTick: { show: false },
        axisLabel: { ...axisText(), color: token("ink-soft"), width: 168, overflow: "truncate", formatter: words },
      };
      option.series = data.series.map((series, index) => ({
        name: series.name,
        type: "bar",
        stack: "all",
        data: series.data,
        color: colorOf(series, index),
        barMaxWidth: 15,
        itemStyle: { borderRadius: data.series.length > 1 ? 0 : [0, 3, 3, 0] },
        label: { show: index === data.series.length - 1, position: "right", color: token("ink-soft"), fontSize: 11, formatter: (each) => withUnit(data.series.reduce((sum, one) => sum + (one.data[each.dataIndex] || 0), 0), unit) },
      }));
      return option;
    },

    // From a start to an end, step by step: what raised the risk and what lowered it.
    waterfall: (data) => {
      const start = data.start || 0;
      let sum = start;
      const steps = data.steps.map(({ label: name, value }) => ({ name, value, from: sum, to: (sum += value) }));
      const bars = [...(data.start == null ? [] : [{ name: data.start_label || "start", from: 0, to: start, value: start, whole: true }]), ...steps, { name: data.end_label || "total", from: 0, to: sum, value: sum, whole: true }];
      const color = (bar) => token(bar.whole ? "ink-faint" : bar.value >= 0 ? "block" : "allow");
      const option = frame({ grid: { left: 4, right: 60, top: 4, bottom: 18, containLabel: true } });
      option.legend.show = false;
      option.tooltip.trigger = "item";
      option.tooltip.formatter = (each) => tooltips([[words(bars[each.dataIndex].name), signed(bars[each.dataIndex].value, data.unit)]]);
      option.xAxis = { ...valueAxis(data), name: data.unit || "", nameLocation: "middle", nameGap: 20, scale: false };
      option.yAxis = {
        type: "category",
        inverse: true,
        data: bars.map((bar) => bar.name),
        axisLine: { show: false },
        axisTick: { show: false },
        axisLabel: { ...axisText(), color: token("ink-soft"), width: 200, overflow: "truncate", formatter: words },
      };
      option.series = [
        {
          type: "custom",
          data: bars.map((bar, at) => [bar.from, bar.to, at]),
          encode: { x: [0, 1], y: 2 },
          renderItem: (_, api) => {
            const bar = bars[api.value(2)];
            const from = api.coord([api.value(0), api.value(2)]);
            const to = api.coord([api.value(1), api.value(2)]);
            const high = Math.min(16, api.size([0, 1])[1] * 0.6);
            const left = Math.min(from[0], to[0]);
            const width = Math.max(2, Math.abs(to[0] - from[0]));
            return {
              type: "group",
              children: [
                { type: "rect", shape: { x: left, y: from[1] - high / 2, width, height: high, r: 2 }, style: { fill: color(bar) } },
                { type: "text", style: { text: signed(bar.value, ""), x: left + width + 5, y: from[1], textVerticalAlign: "middle", fill: token("ink-soft"), fontSize: 11 } },
              ],
            };
          },
        },
      ];
      return option;
    },

    // Values against their usual range: `rows` of {label, value, low, high, middle?}, each on a scale of its own.
    spread: (data) => {
      const rows = data.rows;
      const scaled = rows.map((row) => {
        const width = row.high - row.low || Math.abs(row.high) || 1;
        const at = (value) => Math.max(-1.4, Math.min(2.4, (value - row.low) / width));
        return { ...row, at: row.value == null ? null : at(row.value), mid: row.middle == null ? null : at(row.middle) };
      });
      const option = frame({ grid: { left: 4, right: 64, top: 4, bottom: 18, containLabel: true } });
      option.legend.show = false;
      option.tooltip.trigger = "item";
      option.tooltip.formatter = (each) => {
        const row = rows[each.value[1] ?? each.dataIndex];
        return tooltips([[words(row.label), withUnit(row.value, row.unit)], ["usual", `${withUnit(row.low)} to ${withUnit(row.high, row.unit)}`]]);
      };
      option.xAxis = { type: "value", min: -1.5, max: 2.5, name: data.unit || "usual range shaded", nameLocation: "middle", nameGap: 6, nameTextStyle: axisText(), axisLabel: { show: false }, axisTick: { show: false }, axisLine: { show: false }, splitLine: { show: false } };
      option.yAxis = { type: "category", inverse: true, data: rows.map((row) => row.label), axisLine: { show: false }, axisTick: { show: false }, axisLabel: { ...axisText(), color: token("ink-soft"), width: 200, overflow: "truncate", formatter: words } };
      const outside = (row) => row.at != null && (row.at < 0 || row.at > 1);
      option.series = [
        { type: "bar", stack: "band", silent: true, data: scaled.map(() => 0), itemStyle: { color: "transparent" } },
        { type: "bar", stack: "band", data: scaled.map((row, index) => [1, index]), color: token("accent-soft"), barMaxWidth: 14, itemStyle: { borderRadius: 3 } },
        { type: "scatter", symbolSize: 9, data: scaled.map((row, index) => ({ value: [row.at, index], itemStyle: { color: token(outside(row) ? "block" : "accent") } })), label: { show: true, position: "right", fontSize: 11, color: token("ink-soft"), formatter: (each) => withUnit(rows[each.dataIndex].value, rows[each.dataIndex].unit) } },
      ];
      return option;
    },

    // The shape of a series beside a number: no axes.
    spark: (data) => ({
      ...frame({ grid: { left: 0, right: 0, top: 2, bottom: 2 } }),
      legend: { show: false },
      tooltip: { show: false },
      xAxis: { type: "category", show: false, boundaryGap: false },
      yAxis: { type: "value", show: false, min: 0 },
      series: [{ type: "line", data: data.series[0].data, showSymbol: false, color: colorOf(data.series[0], 0), lineStyle: { width: 1.4 }, areaStyle: { opacity: 0.14 } }],
    }),
  };

  const signed = (value, unit) => `${value >= 0 ? "+" : "\u2212"}${withUnit(Math.abs(value), unit)}`;

  // The same numbers as a table

  function cells(data) {
    if (data.kind === "waterfall") return [["step", "change"], ...data.steps.map((step) => [words(step.label), signed(step.value, data.unit)])];
    if (data.kind === "spread") return [["value of", "now", "usual from", "to"], ...data.rows.map((row) => [words(row.label), withUnit(row.value, row.unit), withUnit(row.low), withUnit(row.high)])];
    const x = data.x || data.series[0].data.map((_, at) => at);
    const kept = x.map((value, at) => [value, at]).filter(([, at]) => !isTime(data) || data.series.some((series) => series.data[at]));
    return [
      [isTime(data) ? "time" : "", ...data.series.map((series) => `${words(series.name)}${data.unit ? `, ${data.unit}` : ""}`)],
      ...kept.map(([value, at]) => [label(data, value), ...data.series.map((series) => withUnit(series.data[at]))]),
    ];
  }

  function table(data) {
    const [head, ...rows] = cells(data);
    const cell = (name, scope) => (text, at) => {
      const made = make(name, at ? { class: "num" } : {}, text);
      if (scope) made.setAttribute("scope", scope);
      return made;
    };
    return make("table", { class: "table" }, make("thead", {}, make("tr", {}, ...head.map(cell("th", "col")))), make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map(cell("td"))))));
  }

  const isEmpty = (data) =>
    !data || (data.kind === "waterfall" ? !data.steps.length : data.kind === "spread" ? !data.rows.length : !data.series?.some((series) => series.data.some((value) => value)));

  // From markup to chart and back

  let loading = null;
  function library() {
    loading ??= new Promise((resolve, reject) => {
      const script = make("script", { src: document.body.dataset.echarts });
      script.onload = () => resolve(window.echarts);
      script.onerror = reject;
      document.head.append(script);
    });
    return loading;
  }

  function tell(figure, text) {
    drawn.get(figure)?.chart?.dispose();
    one(".chart-plot", figure).replaceChildren(make("p", { class: "chart-none" }, text));
  }

  function offerTable(figure) {
    if (one(".chart-switch", figure) || figure.classList.contains("chart-bare")) return;
    const button = make("button", { class: "icon-button icon-button-small chart-switch", type: "button", "aria-pressed": "false", "aria-label": `Show as a table: ${figure.getAttribute("aria-label")}`, title: "Show as a table" });
    const icon = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    icon.setAttribute("class", "icon");
    icon.setAttribute("aria-hidden", "true");
    const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
    use.setAttribute("href", `${document.body.dataset.icons}#table`);
    icon.append(use);
    button.append(icon);
    button.addEventListener("click", () => {
      const asTable = figure.dataset.shown !== "table";
      if (asTable) figure.dataset.shown = "table";
      else delete figure.dataset.shown;
      button.setAttribute("aria-pressed", String(asTable));
      update(figure, drawn.get(figure).data);
    });
    figure.append(button);
  }

  async function update(figure, data) {
    const state = drawn.get(figure) || {};
    state.data = data;
    drawn.set(figure, state);
    const plot = one(".chart-plot", figure);
    const again = () => {
      state.chart?.dispose();
      state.chart = null;
      plot.replaceChildren();
    };
    if (isEmpty(data)) {
      again();
      one(".chart-switch", figure)?.remove();
      plot.removeAttribute("role");
      tell(figure, data?.empty || "Nothing in this time.");
      return;
    }
    offerTable(figure);
    if (figure.dataset.shown === "table") {
      again();
      plot.setAttribute("role", "region");
      plot.tabIndex = 0;
      plot.append(table(data));
      return;
    }
    plot.setAttribute("role", "img");
    plot.removeAttribute("tabindex");
    const echarts = await library();
    if (drawn.get(figure)?.data !== data) return;
    if (!state.chart) {
      again();
      state.chart = echarts.init(plot, null, { renderer: "canvas" });
      state.chart.on("click", (event) => {
        const url = data.urls?.[event.dataIndex];
        if (url) location.assign(url);
      });
    }
    state.chart.setOption(kinds[data.kind](data), { notMerge: true });
  }

  async function start(figure) {
    if (drawn.has(figure)) return;
    drawn.set(figure, {});
    if (!figure.dataset.url) {
      await update(figure, figure.dataset.chart ? JSON.parse(figure.dataset.chart) : null);
      return;
    }
    try {
      const answer = await fetch(figure.dataset.url, { headers: { "x-background": "1" } });
      if (!answer.ok) throw new Error(String(answer.status));
      await update(figure, await answer.json());
    } catch {
      tell(figure, "This chart could not be loaded.");
    }
  }

  function scan() {
    for (const [figure, state] of drawn) {
      if (!figure.isConnected) {
        state.chart?.dispose();
        drawn.delete(figure);
      }
    }
    all("[data-chart]").forEach(start);
  }

  document.addEventListener("vedette:content", scan);
  document.addEventListener("vedette:theme", () => drawn.forEach((state, figure) => state.data && update(figure, state.data)));
  new ResizeObserver(() => drawn.forEach((state) => state.chart?.resize())).observe(document.body);

  window.vedette.charts = { update: (name, data) => one(`#chart-${CSS.escape(name)}`) && update(one(`#chart-${CSS.escape(name)}`), data), token, library };
  scan();
})();
