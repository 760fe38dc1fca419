// The frame: where we are, who we are to the service, what was said last.
import { html, render, Icon, Brand, Btn, Modal, Notice, Failure, useState, useEffect, useRef, dropped, deliver, listed } from './ui.js';
import { t, state, set, speak, useStore, untoast, toast } from './state.js';
import * as api from './api.js';
import Try from './try.js';

const SCREENS = {
  try: ['scan', null], people: ['people', () => import('./people.js')], compare: ['compare', () => import('./compare.js')],
  group: ['group', () => import('./group.js')], jobs: ['jobs', () => import('./jobs.js')], generate: ['spark', () => import('./generate.js')],
  settings: ['gear', () => import('./settings.js')],
};
const ON_PHONE = ['try', 'people', 'compare', 'generate'];

/** Ask who we are to the service; what is shown follows from it. */
export async function refresh() {
  try {
    const session = await api.session();
    let collection = state.collection;
    if (session.collections.length && !session.collections.some((one) => one.name === collection)) collection = session.collections[0].name;
    set({ session, trouble: null, collection });
  } catch (error) { set({ trouble: error }); }
}

const route = () => { const [name, id] = location.hash.replace(/^#\/?/, '').split('/').map(decodeURIComponent); return SCREENS[name] ? [name, id] : ['try', undefined]; };

function useScreen() {
  const [place, setPlace] = useState(route);
  const [View, setView] = useState(() => Try);
  const [ready, setReady] = useState('try');
  useEffect(() => {
    const go = () => setPlace(route());
    addEventListener('hashchange', go);
    return () => removeEventListener('hashchange', go);
  }, []);
  const [name, id] = place;
  const wanted = name === 'people' && id ? 'person' : name;
  useEffect(() => {
    let here = true;
    const load = wanted === 'person' ? import('./person.js') : SCREENS[name][1]?.() ?? Promise.resolve({ default: Try });
    load.then((module) => { if (here) { setView(() => module.default); setReady(wanted); } }, () => toast(t('error.unreachable')));
    return () => { here = false; };
  }, [wanted]);
  return [name, id, ready === wanted ? View : null];
}

const offered = (session) => Object.keys(SCREENS).filter((name) => name !== 'generate' || !session || session.generators?.length !== 0);

function Theme() {
  const { theme } = useStore();
  const next = { auto: 'light', light: 'dark', dark: 'auto' }[theme];
  return html`<${Btn} kind="quiet square slim" icon=${{ auto: 'screen', light: 'sun', dark: 'moon' }[theme]} label=${`${t('theme')}: ${t(`theme.${theme}`)}`} onClick=${() => set({ theme: next })} />`;
}
const Tongue = () => html`<${Btn} kind="quiet slim" onClick=${() => speak(state.lang === 'zh' ? 'en' : 'zh')}><span class="sr">${t('language')}${t('colon')}</span><span lang=${state.lang === 'zh' ? 'en' : 'zh'}>${state.lang === 'zh' ? 'English' : '中文'}</span><//>`;

function Collection() {
  const { session, collection } = useStore();
  const all = session?.collections ?? [];
  if (all.length < 2) return null;
  return html`<label><span class="sr">${t('collection')}</span><select class="select slim" value=${collection} onChange=${(event) => set({ collection: event.target.value, revision: state.revision + 1 })}>${all.map((one) => html`<option value=${one.name}>${one.name}</option>`)}</select></label>`;
}

function Toasts() {
  const { toasts } = useStore();
  return html`<div class="toasts" role="status" aria-live="polite">${toasts.map((one) => html`<div class="toast" key=${one.id}><span>${one.text}</span>${one.undo ? html`<${Btn} kind="slim" icon="undo" onClick=${async () => { untoast(one.id); try { await one.undo(); toast(t('undone')); } catch (error) { toast(error.message); } }}>${t('undo')}<//>` : html`<${Btn} kind="slim square" icon="cross" label=${t('close')} onClick=${() => untoast(one.id)} />`}</div>`)}</div>`;
}

function More({ names, here, onClose }) {
  return html`<${Modal} title=${t('more')} onClose=${onClose}><nav class="nav" aria-label=${t('more')}>${names.map((name) => html`<a key=${name} href=${`#/${name}`} aria-current=${name === here ? 'page' : undefined} onClick=${onClose}><${Icon} name=${SCREENS[name][0]} />${t(`nav.${name}`)}</a>`)}</nav><hr /><div class="row apart"><${Tongue} /><${Theme} /></div><${Collection} /><//>`;
}

function App() {
  const { session, trouble, theme, key, lang } = useStore();
  const [name, id, View] = useScreen();
  const [over, setOver] = useState(false);
  const [more, setMore] = useState(false);
  const main = useRef();
  const first = useRef(true);
  const unknown = !session && !trouble && name !== 'try'; // asks nothing before it is known who asks

  useEffect(() => { if (theme === 'auto') delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = theme; }, [theme]);
  useEffect(() => { document.title = `${t(`nav.${name}`)} · mien`; }, [name, lang]);
  useEffect(() => {
    if (!View || unknown) return;
    if (first.current) { first.current = false; return; }
    scrollTo(0, 0);
    main.current?.querySelector('h1')?.focus({ preventScroll: true });
  }, [View, id, unknown]);
  useEffect(() => {
    let depth = 0;
    const files = (event) => [...event.dataTransfer?.types ?? []].includes('Files');
    const enter = (event) => { if (files(event)) { depth++; setOver(true); } };
    const leave = (event) => { if (files(event) && --depth <= 0) { depth = 0; setOver(false); } };
    const hover = (event) => { if (files(event)) event.preventDefault(); };
    const drop = async (event) => { depth = 0; setOver(false); if (!files(event) || event.defaultPrevented) return; event.preventDefault(); const found = await dropped(event.dataTransfer); if (found.length) deliver(found); };
    const away = () => { depth = 0; setOver(false); };
    const paste = (event) => { const found = [...event.clipboardData?.files ?? []]; if (found.length) { event.preventDefault(); deliver(listed(found)); } };
    const all = { dragenter: enter, dragleave: leave, dragover: hover, drop, 'mien-dropped': away, paste };
    for (const [kind, listen] of Object.entries(all)) addEventListener(kind, listen);
    return () => { for (const [kind, listen] of Object.entries(all)) removeEventListener(kind, listen); };
  }, []);

  const names = offered(session);
  const locked = session?.keys_required && !session.key && !key && name !== 'settings';
  const link = (one) => html`<a key=${one} href=${`#/${one}`} aria-current=${one === name ? 'page' : undefined}><${Icon} name=${SCREENS[one][0]} />${t(`nav.${one}`)}</a>`;
  const rest = names.filter((one) => !ON_PHONE.includes(one));
  return html`<a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); main.current.focus(); }}>${t('skip')}</a>
    <div class="shell"><aside class="rail"><a class="brand" href="#/try" aria-label="mien"><${Brand} />mien</a><nav class="nav" aria-label=${t('nav')}>${names.map(link)}</nav>
      <div class="rail-foot"><${Collection} /><div class="row apart"><${Tongue} /><${Theme} /></div></div></aside>
    <main class="main" id="main" tabindex="-1" ref=${main}>
      ${trouble && html`<div class="page lead-notice"><${Failure} error=${trouble} again=${refresh} /></div>`}
      ${locked ? html`<div class="page"><h1 tabindex="-1">${t('key.title')}</h1><${Notice} action=${html`<a class="btn slim" href="#/settings">${t('nav.settings')}</a>`}>${t('key.needed')}<//></div>` : View && !unknown ? html`<${View} key=${`${name}${id ?? ''}`} id=${id} />` : html`<div class="page" aria-busy="true"><div class="skeleton line"></div></div>`}
    </main></div>
    <nav class="tabbar" aria-label=${t('nav')}>${names.filter((one) => ON_PHONE.includes(one)).map(link)}<button type="button" aria-haspopup="dialog" aria-current=${rest.includes(name) ? 'page' : undefined} onClick=${() => setMore(true)}><${Icon} name="more" />${t('more')}</button></nav>
    ${over && html`<div class="veil" aria-hidden="true"><div>${t('drop.now')}</div></div>`}
    ${more && html`<${More} names=${rest} here=${name} onClose=${() => setMore(false)} />`}
    <${Toasts} />`;
}

const asked = refresh();
await speak(state.lang);
render(html`<${App} />`, document.getElementById('app'));
await asked;
