// Figures of a plan: nothing to choose, only tighter where the page is narrow.
if (window.Plotly) {
  keepDrawn(({ data, layout }, place, narrow) => {
    if (!narrow) return;
    layout.margin.r = 10;
    for (const trace of data) {
      if (trace.marker?.colorbar) trace.marker.colorbar.thickness = 6;
      if (trace.mode === "text") trace.textfont.size = 10;
    }
    if (place.dataset.figure !== "figure-phases") return;
    layout.xaxis.range[1] *= 1.45; // what stands behind the bars takes as much room as before
    layout.yaxis.tickfont = { size: 9 };
  });
}
