"use strict";
// Reads values off the curves under the pointer, all curves of a picture at one moment.
for (const chart of document.querySelectorAll(".chart")) {
  const begin = Number(chart.dataset.begin), end = Number(chart.dataset.end);
  const tracks = [...chart.querySelectorAll(".track:not(.empty)")].map((track) => {
    const points = [];
    let x = 0, y = 0;
    for (const [, kind, rest] of track.querySelector(".curve").getAttribute("d").matchAll(/([MLHVh])([^MLHVh]*)/g)) {
      const numbers = rest.trim().split(" ").map(Number);
      if (kind === "H") { x = numbers[0]; points.push([x, y]); }
      else if (kind === "V") { y = numbers[0]; points.push([x, y]); }
      else if (kind !== "h") { [x, y] = numbers; points.push([x, y]); }
    }
    return {points, plot: track.querySelector(".plot"), cursor: track.querySelector(".cursor"),
      output: track.querySelector("output"), low: Number(track.dataset.low), high: Number(track.dataset.high), unit: track.dataset.unit};
  });
  const last = (points, at) => {
    let low = 0, high = points.length;
    while (low < high) { const mid = (low + high) >> 1; if (points[mid][0] <= at) low = mid + 1; else high = mid; }
    return points[low - 1];
  };
  const show = (event) => {
    if (!tracks.length) return;
    const box = tracks[0].plot.getBoundingClientRect();
    const part = (event.clientX - box.left) / box.width;
    const inside = part >= 0 && part <= 1;
    for (const track of tracks) {
      const point = inside && last(track.points, part * 1000);
      track.cursor.style.display = inside ? "block" : "none";
      track.cursor.style.left = part * 100 + "%";
      const value = point && track.high - point[1] / 100 * (track.high - track.low);
      const digits = track.high - track.low > 100 ? 0 : track.high - track.low > 5 ? 1 : 3;
      track.output.textContent = point ? `${(begin + part * (end - begin)).toFixed(2)} s: ${value.toFixed(digits)} ${track.unit}` : "";
    }
  };
  chart.addEventListener("pointermove", show);
  chart.addEventListener("pointerdown", show);
  chart.addEventListener("pointerleave", () => show({clientX: -1e6}));
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
