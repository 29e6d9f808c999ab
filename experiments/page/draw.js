"use strict";
// The figures of a page, in its colours, and again whenever these or its width change.
const keepDrawn = (adjust) => {
  const phone = matchMedia("(max-width: 44rem)");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const places = [...document.querySelectorAll("[data-figure]")];

  const coloured = (value, style) => {
    if (typeof value === "string" && value.startsWith("var(")) {
      return style.getPropertyValue(value.slice(4, -1)).trim();
    }
    if (Array.isArray(value)) return value.map((item) => coloured(item, style));
    if (value !== null && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, coloured(v, style)]));
    }
    return value;
  };

  const draw = (place) => {
    const style = getComputedStyle(document.documentElement);
    const source = document.getElementById(place.dataset.figure).textContent;
    const figure = coloured(JSON.parse(source), style);
    adjust(figure, place, phone.matches);
    const { data, layout } = figure;
    if (phone.matches) {
      layout.font.size = 11;
      layout.margin.l = 36;
    }
    return Plotly.react(place, data, layout, { displayModeBar: false, responsive: true });
  };
  const drawAll = () => Promise.all(places.map(draw));

  dark.addEventListener("change", drawAll);
  phone.addEventListener("change", drawAll);
  addEventListener("beforeprint", drawAll);
  addEventListener("afterprint", drawAll);
  drawAll();
  return drawAll;
};
