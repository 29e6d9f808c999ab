// Figures of a plan: nothing to choose, only narrower where the page is.
if (window.Plotly) {
  keepDrawn(({ data, layout }, place, narrow) => {
    if (!narrow) return;
    layout.margin.r = 10;
    for (const trace of data) {
      if (trace.marker?.colorbar) trace.marker.colorbar.thickness = 6;
    }
  });
}
