"""Markers and lines of the legend, as plotly draws them."""

# Outlines in a box of 28 x 12.
SHAPES = {
    "circle": "M10 6a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z",
    "square": "M10.5 2.5h7v7h-7Z",
    "diamond": "M14 1L19 6L14 11L9 6Z",
    "triangle-up": "M14 1.5L18.6 9.5H9.4Z",
    "triangle-down": "M14 10.5L18.6 2.5H9.4Z",
    "cross": "M12.4 1.5h3.2v2.9h2.9v3.2h-2.9v2.9h-3.2v-2.9h-2.9v-3.2h2.9Z",
    "x": "M10.5 4.2L12.2 2.5L14 4.3L15.8 2.5L17.5 4.2L15.7 6L17.5 7.8L15.8 9.5L14 7.7L12.2 9.5"
    "L10.5 7.8L12.3 6Z",
    "star": "M14 .8L15.4 4.5L19.2 4.6L16.2 7L17.3 10.8L14 8.6L10.7 10.8L11.8 7L8.8 4.6L12.6 4.5Z",
}
DASH_ARRAYS = {
    "solid": "none",
    "dash": "6 3",
    "dot": "2 2.5",
    "dashdot": "6 2 2 2",
    "longdash": "9 3",
    "longdashdot": "9 2 2 2",
}
