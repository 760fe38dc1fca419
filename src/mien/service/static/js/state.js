// What the whole page knows: language, look, session, collection and the rule that decides. Views ask with useStore().
import { useEffect, useState } from '../vendor/hooks.mjs';

const watchers = new Set();
const kept = (name, store = localStorage) => { try { return store.getItem(`mien.${name}`); } catch { return null; } };
const keep = (name, value, store = localStorage) => {
  try { if (value === null || value === '') store.removeItem(`mien.${name}`); else store.setItem(`mien.${name}`, value); } catch { /* a private window: forgotten on reload */ }
};
const parsed = (text, otherwise) => { try { return JSON.parse(text) ?? otherwise; } catch { return otherwise; } };

export const LANGUAGES = { en: 'English', zh: '中文' };
export const state = {
  lang: LANGUAGES[kept('lang')] ? kept('lang') : navigator.language.startsWith('zh') ? 'zh' : 'en',
  theme: kept('theme') || 'auto',
  collection: kept('collection') || 'default',
  rule: parsed(kept('rule'), { fmr: 0.001 }), // { fmr } or { threshold }
  dismissed: parsed(kept('dismissed'), []), // findings that somebody answered with "leave it"
  key: kept('key', sessionStorage) || '', // for this tab only
  session: null,
  trouble: null, // why there is no session
  toasts: [],
  revision: 0, // rises with every change of the gallery, so that lists load again
};

/** Change some of the state and draw again. */
export function set(change) {
  Object.assign(state, change);
  if ('lang' in change) keep('lang', state.lang);
  if ('theme' in change) keep('theme', state.theme);
  if ('collection' in change) keep('collection', state.collection);
  if ('rule' in change) keep('rule', JSON.stringify(state.rule));
  if ('dismissed' in change) keep('dismissed', JSON.stringify(state.dismissed.slice(-500)));
  if ('key' in change) keep('key', state.key, sessionStorage);
  for (const watch of watchers) watch();
}

export function useStore() {
  const [, again] = useState(0);
  useEffect(() => {
    const watch = () => again((n) => n + 1);
    watchers.add(watch);
    return () => watchers.delete(watch);
  }, []);
  return state;
}

const SCOPES = ['read', 'enrol', 'admin'];
/** Whether the key in use may do this in the collection in use; the service decides, this only hides what it would refuse. */
export function can(scope) {
  const held = state.session?.collections.find((one) => one.name === state.collection)?.scope;
  return held === undefined || SCOPES.indexOf(held) >= SCOPES.indexOf(scope);
}

export const changed = () => set({ revision: state.revision + 1 });

let words = {};
let plurals = new Intl.PluralRules('en');

/** Load the words of the language in use. */
export async function speak(lang) {
  words = (await import(`../lang/${lang}.js`)).default;
  plurals = new Intl.PluralRules(lang);
  document.documentElement.lang = lang === 'zh' ? 'zh-CN' : lang;
  set({ lang });
}

/** The sentence with this id; {name} is replaced by values.name, and "id.one" is taken for one of something. */
export function t(id, values = {}) {
  const one = 'n' in values && plurals.select(values.n) === 'one' && words[`${id}.one`];
  const text = one || words[id];
  if (text === undefined) return id;
  return text.replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    return typeof value === 'number' ? number(value) : String(value ?? '');
  });
}
export const known = (id) => words[id] !== undefined;
/** A name inside a sentence: its writing direction stays its own. */
export const quoted = (name) => `\u2068${name}\u2069`;

export const number = (value, digits) => new Intl.NumberFormat(state.lang, digits === undefined ? {} : { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
export const percent = (value, most = 1) => value === null || value === undefined ? '–' : new Intl.NumberFormat(state.lang, { style: 'percent', maximumFractionDigits: value > 0 && value < 0.001 ? 3 : most }).format(value);
/** A probability in words that do not claim more than is known. */
export const chance = (p) => p > 0.999 ? t('over', { p: percent(0.999) }) : percent(p, p > 0.99 ? 1 : 0);
export const score = (value) => value === null || value === undefined ? '–' : number(value, 2);
export const date = (text, time = false) => text ? new Intl.DateTimeFormat(state.lang, time ? { dateStyle: 'medium', timeStyle: 'short' } : { dateStyle: 'medium' }).format(new Date(text)) : '–';
export function bytes(n) {
  const unit = n >= 1e6 ? ['megabyte', 1e6] : n >= 1e3 ? ['kilobyte', 1e3] : ['byte', 1];
  return new Intl.NumberFormat(state.lang, { style: 'unit', unit: unit[0], unitDisplay: 'short', maximumFractionDigits: n >= 1e6 ? 1 : 0 }).format(n / unit[1]);
}

let count = 0;
/** Say something at the foot of the page; undo is a function that takes it back. */
export function toast(text, undo) {
  const id = ++count;
  set({ toasts: [...state.toasts.slice(-2), { id, text, undo }] });
  setTimeout(() => untoast(id), undo ? 12000 : 5000);
}
export const untoast = (id) => set({ toasts: state.toasts.filter((item) => item.id !== id) });
