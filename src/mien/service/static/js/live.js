// The camera: one request in flight, so the frame rate is what the machine allows; nothing is kept.
import { html, Btn, Failure, Bar, useEffect, useRef, useState, expression } from './ui.js';
import { Faces } from './faces.js';
import { t, number, score, percent } from './state.js';
import * as api from './api.js';

const SIDE = 640;

const snap = (video, side, quality) => {
  const scale = Math.min(1, side / Math.max(video.videoWidth, video.videoHeight));
  const canvas = document.createElement('canvas');
  canvas.width = Math.round(video.videoWidth * scale);
  canvas.height = Math.round(video.videoHeight * scale);
  canvas.getContext('2d').drawImage(video, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob((blob) => resolve(new File([blob], 'camera.jpg', { type: 'image/jpeg' })), 'image/jpeg', quality));
};

/** Give each face the number of the nearest one before, so that boxes glide instead of jumping. */
function follow(before, faces, next) {
  const free = [...before];
  return faces.map((face) => {
    const centre = [(face.box[0] + face.box[2]) / 2, (face.box[1] + face.box[3]) / 2];
    const reach = face.box[2] - face.box[0];
    let best = -1, least = reach;
    free.forEach((old, i) => { const away = Math.hypot(old.centre[0] - centre[0], old.centre[1] - centre[1]); if (away < least) { least = away; best = i; } });
    return { centre, id: best < 0 ? next() : free.splice(best, 1)[0].id };
  });
}

export default function Live({ people, onTake, onStop }) {
  const video = useRef();
  const [error, setError] = useState(null);
  const [seen, setSeen] = useState(null);
  const [on, setOn] = useState(0);

  useEffect(() => {
    const stop = new AbortController();
    const view = video.current; // the page may be gone, and the reference with it, before the loop sees that it has to stop
    let stream = null, tracks = [], last = 0;
    const pace = [];
    const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    const run = async () => {
      try {
        stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 }, height: { ideal: 720 }, facingMode: 'user' }, audio: false });
      } catch (problem) {
        setError(new Error(t(problem.name === 'NotAllowedError' ? 'live.refused' : 'live.none')));
        return;
      }
      if (stop.signal.aborted) { stream.getTracks().forEach((track) => track.stop()); return; }
      view.srcObject = stream;
      try { await view.play(); } catch { return; }
      while (!stop.signal.aborted) {
        if (document.hidden || !view.videoWidth) { await wait(120); continue; }
        const began = performance.now();
        try {
          const frame = await snap(view, SIDE, 0.85);
          const said = await api.identify(frame, { top: 1, signal: stop.signal });
          if (stop.signal.aborted) return;
          pace.push(performance.now()); while (pace[0] < performance.now() - 3000) pace.shift();
          tracks = follow(tracks, said.picture.faces, () => ++last);
          setSeen({ said, ids: tracks.map((track) => track.id), ms: performance.now() - began, rate: pace.length > 1 ? 1000 * (pace.length - 1) / (pace.at(-1) - pace[0]) : null });
          setError(null);
        } catch (problem) {
          if (stop.signal.aborted) return;
          setError(problem);
          await wait(1000 * (problem.retryAfter ?? 1));
        }
        await new Promise(requestAnimationFrame);
      }
    };
    run();
    return () => { stop.abort(); stream?.getTracks().forEach((track) => track.stop()); };
  }, []);

  const picture = seen?.said.picture;
  const faces = picture?.faces ?? [];
  return html`<div class="work"><div class="stage">
      <${Faces} width=${picture?.width ?? 4} height=${picture?.height ?? 3} faces=${faces} ids=${seen?.ids} on=${on} onPick=${setOn} people=${people} mirror><video ref=${video} autoplay playsinline muted aria-label=${t('live.picture')}></video><//>
      <div class="row apart"><span class="live small soft num" data-live=${seen ? 'on' : 'off'}>${seen ? t('live.pace', { rate: number(seen.rate ?? 1000 / seen.ms, 1), ms: Math.round(seen.ms) }) : t('live.starting')}</span>
        <div class="row"><${Btn} kind="primary" icon="camera" disabled=${!seen} onClick=${async () => onTake(await snap(video.current, 1920, 0.95))}>${t('live.take')}<//><${Btn} icon="cross" onClick=${onStop}>${t('live.stop')}<//></div></div>
      <p class="small soft">${t('live.kept')}</p>
    </div>
    <div class="stack"><${Failure} error=${error} /><h2>${t('face.count', { n: faces.length })}</h2>
      ${faces.map((face, i) => { const best = face.candidates?.[0]; return html`<article class=${`face ${i === on ? 'on' : ''}`} key=${seen.ids[i]}><div class="row apart"><h3>${face.subject ? html`<bdi class="name">${face.subject}</bdi>` : t('unknown')}</h3>${best && html`<span class="num small soft">${score(best.score)}</span>`}</div>
        ${face.expression && html`<div class="bars"><span>${expression(face.expression.label)}</span><${Bar} value=${face.expression.probabilities[face.expression.label]} label=${expression(face.expression.label)} /><span class="num">${percent(face.expression.probabilities[face.expression.label], 0)}</span></div>`}</article>`; })}
    </div></div>`;
}
