// The page's only script: it asks a worker for samples and shows them. The worker unpacks and searches, so that the
// page answers at once whatever it searches through. Texts reach the page as text, never as HTML.
(() => {
  "use strict";
  const PAGE = 40;
  const form = document.getElementById("search");
  const list = document.getElementById("found");
  const status = document.getElementById("status");
  const more = document.getElementById("more");
  const waiting = new Map();
  let worker = null, asked = 0, newest = 0, shown = 0;

  function start() {
    if (worker) return;
    try {
      const code = new Blob([document.getElementById("worker").textContent], { type: "text/javascript" });
      worker = new Worker(URL.createObjectURL(code));
    } catch (error) {
      status.textContent = "This browser runs no workers for a page like this one, so samples cannot be searched here.";
      return;
    }
    worker.onerror = (event) => { status.textContent = "Samples cannot be read: " + event.message; };
    worker.onmessage = ({ data }) => {
      if (data.error) status.textContent = "Samples cannot be read here: " + data.error;
      const done = waiting.get(data.id);
      waiting.delete(data.id);
      if (done && !data.error) done(data);
    };
    worker.postMessage({ packed: document.getElementById("samples-data").textContent });
  }

  function ask(question) {
    start();
    return worker ? new Promise((done) => { waiting.set(++asked, done); worker.postMessage({ id: asked, ...question }); })
                  : Promise.reject(new Error("no worker"));
  }

  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function marked(node, text, wanted) {
    const low = text.toLowerCase();
    let at = 0;
    for (let next; wanted && (next = low.indexOf(wanted, at)) >= 0; at = next + wanted.length) {
      node.append(text.slice(at, next), element("mark", "", text.slice(next, next + wanted.length)));
    }
    node.append(text.slice(at));
  }

  function card(one, wanted) {
    const made = element("li", "sample " + (one.grade === "right" ? "pass" : "fail"));
    const head = element("h4", "", one.score + ", " + one.checkpoint);
    head.append(element("span", "", (one.grade === "right" ? "✓ " : "✗ ") + one.grade));
    const body = element("pre");
    body.tabIndex = 0;
    const prompt = element("span", "prompt"), written = element("span", "wrote");
    marked(prompt, one.prompt, wanted);
    marked(written, one.written, wanted);
    body.append(prompt, written);
    made.append(head, body);
    if (!one.written.trim()) made.append(element("p", "", "wrote nothing"));
    if (one.wanted && one.grade !== "right") {
      const note = element("p", "", "expected ");
      note.append(element("code", "", one.wanted));
      made.append(note);
    }
    return made;
  }

  async function search(from) {
    const values = new FormData(form);
    const wanted = String(values.get("text") || "").toLowerCase();
    const question = { from, count: PAGE, text: wanted };
    for (const name of ["score", "checkpoint", "grade"]) question[name] = String(values.get(name) || "");
    const number = ++newest;
    status.textContent = "Searching…";
    const answer = await ask({ kind: "search", ...question });
    if (answer.stale || number !== newest) return;
    if (!from) { list.replaceChildren(); shown = 0; }
    for (const one of answer.rows) list.append(card(one, wanted));
    shown += answer.rows.length;
    status.textContent = answer.total ? `${shown.toLocaleString()} of ${answer.total.toLocaleString()} samples` : "No sample has that.";
    more.hidden = shown >= answer.total;
  }

  if (form) {
    let typing = 0;
    const again = () => { clearTimeout(typing); typing = setTimeout(() => search(0).catch(() => {}), 120); };
    form.addEventListener("input", again);
    form.addEventListener("submit", (event) => { event.preventDefault(); again(); });
    more.addEventListener("click", () => search(shown).catch(() => {}));
    document.addEventListener("keydown", (event) => {
      const typed = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
      if (event.key === "/" && !typed && !event.ctrlKey && !event.metaKey) { event.preventDefault(); form.elements.text.focus(); }
    });
    if ("IntersectionObserver" in window) {
      const watch = new IntersectionObserver((seen) => { if (seen.some((one) => one.isIntersecting)) { watch.disconnect(); again(); } });
      watch.observe(form);
    } else again();
  }

  for (const box of document.querySelectorAll(".every")) {
    const range = box.querySelector("input"), place = box.querySelector(".place");
    let answers = null;
    const draw = async () => {
      answers = answers || (await ask({ kind: "answers", score: box.dataset.score, item: box.dataset.item })).rows;
      if (!answers.length) return;
      range.max = answers.length - 1;
      const one = answers[Math.min(range.value, answers.length - 1)];
      range.setAttribute("aria-valuetext", one.checkpoint);
      place.replaceChildren(card({ ...one, prompt: "" }, ""));
    };
    range.addEventListener("input", () => draw().catch(() => {}));
    box.addEventListener("toggle", () => { if (box.open) draw().catch(() => {}); });
    box.hidden = false;
  }
})();
