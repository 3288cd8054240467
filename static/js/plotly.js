// Plotly, loaded with the first chart that comes into view.

let plotly;

export const CONFIG = { displayModeBar: false, responsive: false, doubleClick: false, showTips: false };

export function loadPlotly() {
  plotly ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = new URL("../vendor/plotly.min.js", import.meta.url);
    script.addEventListener("load", () => resolve(window.Plotly));
    script.addEventListener("error", () => reject(new Error("The chart library did not load.")));
    document.head.append(script);
  });
  return plotly;
}
