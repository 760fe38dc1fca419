// Compare: do two pictures show one person?
import { html, Icon, Head, Failure, Scale, Field, Slot, useState, useEffect, useDrops, isPicture } from './ui.js';
import { meaning, Quality as QualityBar } from './faces.js';
import { Same } from './try.js';
import { t, percent, chance, number } from './state.js';
import * as api from './api.js';

const RATES = [0.01, 0.001, 0.0001, 0.00001];

export default function Compare() {
  const [a, setA] = useState(null);
  const [b, setB] = useState(null);
  const [fmr, setFmr] = useState(0.001);
  const [answer, setAnswer] = useState(null);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  useDrops((files) => { const pictures = files.filter((item) => isPicture(item.file)).map((item) => item.file); if (pictures.length > 1) { setA(pictures[0]); setB(pictures[1]); } else if (pictures[0]) { if (a) setB(pictures[0]); else setA(pictures[0]); } });
  useEffect(() => {
    if (!a || !b) return undefined;
    const stop = new AbortController();
    setBusy(true); setError(null);
    api.verify(a, b, { fmr }, stop.signal).then((said) => { setAnswer(said); setBusy(false); }, (problem) => { if (problem.name !== 'AbortError') { setError(problem); setAnswer(null); setBusy(false); } });
    return () => stop.abort();
  }, [a, b, fmr]);
  const point = answer?.operating_point;
  const side = (name, of) => of?.quality && html`<div class="stack-s"><span class="label">${name}</span><${QualityBar} of=${of.quality} />${of.faces > 1 && html`<p class="small soft">${t('compare.faces', { n: of.faces, face: of.face })}</p>`}</div>`;
  return html`<div class="page"><${Head} title=${t('compare.title')}>${t('compare.lead')}<//>
    <div class="two"><${Slot} name="a" title=${t('compare.a')} file=${a} onFile=${setA} /><${Slot} name="b" title=${t('compare.b')} file=${b} onFile=${setB} /></div>
    <div class="row"><${Field} label=${t('compare.rate')}><select class="select" value=${String(fmr)} onChange=${(event) => setFmr(Number(event.target.value))}>${RATES.map((rate) => html`<option value=${String(rate)}>${t('one_in', { many: number(1 / rate) })}</option>`)}</select><//></div>
    <div aria-live="polite" aria-busy=${busy ? 'true' : 'false'}><${Failure} error=${error} />
      ${answer && html`<section class=${`panel verdict ${answer.match ? 'yes' : 'no'}`}><h2><${Icon} name=${answer.match ? 'check' : 'cross'} />${t(answer.match ? 'compare.yes' : 'compare.no')}</h2>
        <${Scale} value=${answer.score} threshold=${point.threshold} /><p class="soft">${meaning(point, { match: answer.match })}${answer.probability !== null ? ` ${t('probability.even', { p: chance(answer.probability) })}` : ''}</p>
        ${answer.worst_group && html`<p class="small soft">${t('compare.worst', { group: answer.worst_group.group, fmr: percent(answer.worst_group.fmr, 2) })}</p>`}
        <div class="two">${side(t('compare.a'), answer.a)}${side(t('compare.b'), answer.b)}</div></section>`}
      ${!answer && !error && busy && html`<div class="panel stack" aria-hidden="true"><div class="skeleton line"></div><div class="skeleton line short"></div></div>`}</div>
    ${answer && html`<${Same} path="v1/verify" method="verify" fields=${['a', 'b']} />`}</div>`;
}
