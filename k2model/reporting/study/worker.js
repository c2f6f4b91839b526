// Runs beside the page: unpacks the samples once, then answers questions about them. A search goes through the texts
// in slices and gives up as soon as a newer one has come.
"use strict";
const SLICE = 12; // milliseconds
let content = null, newest = 0;

async function unpack(packed) {
  const bytes = Uint8Array.from(atob(packed.trim()), (one) => one.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

const pause = () => new Promise((done) => setTimeout(done));

function row(data, at) {
  return {
    score: data.scores[data.score[at]], checkpoint: data.checkpoints[data.checkpoint[at]], grade: data.grade[at],
    prompt: data.texts[data.prompt[at]], written: data.texts[data.written[at]], wanted: data.texts[data.wanted[at]],
  };
}

async function texts(data, wanted, current) {
  const has = new Uint8Array(data.texts.length);
  let began = performance.now();
  for (let i = 0; i < has.length; i++) {
    has[i] = data.texts[i].toLowerCase().includes(wanted) ? 1 : 0;
    if (performance.now() - began > SLICE) {
      await pause();
      if (!current()) return null;
      began = performance.now();
    }
  }
  return has;
}

async function search(data, asked) {
  const current = () => asked.id === newest;
  const has = asked.text ? await texts(data, asked.text, current) : null;
  if (asked.text && !has) return { stale: true };
  const score = data.scores.indexOf(asked.score), checkpoint = data.checkpoints.indexOf(asked.checkpoint);
  const rows = [];
  let total = 0;
  for (let at = 0; at < data.score.length; at++) {
    if (asked.score && data.score[at] !== score) continue;
    if (asked.checkpoint && data.checkpoint[at] !== checkpoint) continue;
    if (asked.grade && data.grade[at] !== asked.grade) continue;
    if (has && !has[data.prompt[at]] && !has[data.written[at]]) continue;
    if (total >= asked.from && rows.length < asked.count) rows.push(row(data, at));
    total++;
  }
  return { rows, total };
}

function answers(data, asked) {
  const score = data.scores.indexOf(asked.score), item = data.texts.indexOf(asked.item);
  const rows = [];
  for (let at = 0; at < data.score.length; at++) {
    if (data.score[at] === score && data.item[at] === item) rows.push(row(data, at));
  }
  return { rows };
}

onmessage = async ({ data: asked }) => {
  if (asked.packed) { content = unpack(asked.packed); return; }
  if (asked.kind === "search") newest = asked.id;
  try {
    const data = await content;
    const answer = asked.kind === "search" ? await search(data, asked) : answers(data, asked);
    postMessage({ id: asked.id, ...answer });
  } catch (error) {
    postMessage({ id: asked.id, error: String(error) });
  }
};
