// Makes the drawn timeline one that answers: what lives under the pointer, and a stretch to look at closely.
// uPlot is loaded when the chart comes into view; without this file the drawing and the table say the same.
const figure = document.getElementById("timeline-figure");
const data = JSON.parse(document.getElementById("timeline-data").textContent);
const GIB = 2 ** 30;
const size = (bytes) => {
  const unit = Math.abs(bytes) >= GIB ? [GIB, "GiB"] : [2 ** 20, "MiB"];
  return `${(bytes / unit[0]).toLocaleString("en", { maximumSignificantDigits: 4 })} ${unit[1]}`;
};

function load(name, attributes) {
  return new Promise((resolve, reject) => {
    const made = Object.assign(document.createElement(name), attributes, { onload: resolve, onerror: reject });
    document.head.append(made);
  });
}

function color(className, property = "fill") {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  rect.setAttribute("class", className);
  svg.append(rect);
  svg.classList.add("hidden");
  document.body.append(svg);
  const found = getComputedStyle(rect)[property];
  svg.remove();
  return found;
}

function bands(plot) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, 0, bbox.width, bbox.top + bbox.height);
  ctx.clip();
  ctx.textAlign = "center";
  ctx.font = `${12 * devicePixelRatio}px ${getComputedStyle(document.body).fontFamily}`;
  data.bands.forEach(([name, from, to], index) => {
    const left = plot.valToPos(from, "x", true);
    const right = plot.valToPos(to, "x", true);
    ctx.fillStyle = color(index % 2 ? "band odd" : "band");
    ctx.fillRect(left, bbox.top, right - left, bbox.height);
    ctx.fillStyle = color("tick-color");
    const words = name.replaceAll("_", " ");
    const seen = Math.min(right, bbox.left + bbox.width) - Math.max(left, bbox.left);
    if (ctx.measureText(words).width < seen) {
      ctx.fillText(words, (Math.max(left, bbox.left) + Math.min(right, bbox.left + bbox.width)) / 2, bbox.top - 8 * devicePixelRatio);
    }
  });
  ctx.restore();
}

function options(width) {
  const stepped = uPlot.paths.stepped({ align: 1 });
  const shown = { paths: stepped, points: { show: false } };
  const areas = data.terms.map(([key, label, values]) => ({
    ...shown, label, width: 0, fill: color(`t-${key}`), stroke: color(`t-${key}`),
    value: (_plot, _stacked, _series, index) => (index === null ? "–" : size(values[index])),
  }));
  const line = { ...shown, width: 1.5, value: (_plot, bytes) => (bytes === null ? "–" : size(bytes)) };
  const reserved = { ...line, label: "Reserved", stroke: color("reserved-line", "stroke"), dash: [5, 3] };
  const usable = { ...line, label: "Usable", stroke: color("capacity", "stroke") };
  const ink = color("tick-color");
  const incrs = [-3, -2, -1, 0, 1, 2, 3, 4].flatMap((power) => [1, 2, 5].map((base) => base * 10 ** power * GIB));
  const grid = { stroke: color("grid-line", "stroke"), width: 1 };
  return {
    width, height: 340, padding: [28, 8, 4, 0],
    scales: { x: { time: false, range: (_plot, low, high) => [low, high] }, y: { range: (_plot, _low, high) => [0, high * 1.06] } },
    axes: [{ show: false }, { stroke: ink, grid, ticks: grid, size: 64, incrs, values: (_plot, marks) => marks.map((mark) => `${(mark / GIB).toLocaleString("en")} GiB`) }],
    series: [
      { label: "Instant", value: (_plot, _x, _series, index) => (index === null ? "–" : said(index)) },
      ...areas.reverse(),
      ...(data.reserved.length ? [reserved] : []),
      ...(data.usable ? [usable] : []),
    ],
    cursor: { points: { show: false } },
    hooks: { drawClear: [bands] },
  };
}

function said(index) {
  const where = data.modules[index] ? ` in ${data.modules[index]}` : "";
  return `${data.instants[index].toLocaleString("en")}, ${data.operations[index]}${where}, ${size(data.allocated[index])} live`;
}

function columns() {
  const sums = [];
  data.terms.reduce((below, [, , values]) => {
    const sum = values.map((value, index) => value + below[index]);
    sums.push(sum);
    return sum;
  }, data.across.map(() => 0));
  return [
    data.across, ...sums.reverse(),
    ...(data.reserved.length ? [data.reserved] : []),
    ...(data.usable ? [data.across.map(() => data.usable)] : []),
  ];
}

async function draw() {
  await Promise.all([
    load("link", { rel: "stylesheet", href: figure.dataset.css }),
    load("script", { src: figure.dataset.script }),
  ]);
  const place = document.getElementById("timeline-live");
  const drawn = document.getElementById("timeline-drawing");
  drawn.hidden = true;
  place.hidden = false;
  let plot = new uPlot(options(place.clientWidth), columns(), place);
  new ResizeObserver(() => plot.setSize({ width: place.clientWidth, height: 340 })).observe(place);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    plot.destroy();
    plot = new uPlot(options(place.clientWidth), columns(), place);
  });
}

new IntersectionObserver((entries, observer) => {
  if (entries.some((entry) => entry.isIntersecting)) {
    observer.disconnect();
    draw();
  }
}, { rootMargin: "200px" }).observe(figure);
