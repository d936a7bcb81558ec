import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument, visit } from 'yaml';
import { quoteInput } from '../ip/address.ts';
import { MeshFileError } from './errors.ts';

export interface YamlLimits {
  /** How many values may be read, an aliased one every time it is used. */
  readonly maxValues: number;
}

/** Faults that yaml words for programmers. */
const faultTexts: Readonly<Record<string, string>> = {
  MULTIPLE_DOCS: 'more than one document',
  RESOURCE_EXHAUSTION: 'nested too deeply',
};

/** The YAML document under a path, and what places an error in it. */
class YamlFile {
  readonly path: string;
  readonly root: Node;
  readonly #lines: LineCounter;
  readonly #limits: YamlLimits;
  #values = 0;
  #anchored: Map<Node, Node> | undefined;

  constructor(path: string, text: string, limits: YamlLimits) {
    this.path = path;
    this.#limits = limits;
    this.#lines = new LineCounter();
    const document = parseDocument(text, {
      lineCounter: this.#lines,
      // Both of yaml's own checks are quadratic in what a hostile file can hold; cursors check keys themselves.
      uniqueKeys: false,
      prettyErrors: false,
      logLevel: 'error',
      schema: 'core',
    });
    const fault = document.errors[0];
    if (fault !== undefined) this.fail(fault.pos[0], '', faultTexts[fault.code] ?? fault.message);
    if (document.contents === null) this.fail(0, '', 'the file is empty');
    this.root = document.contents;
  }

  count(node: Node, field: string): void {
    this.#values++;
    if (this.#values <= this.#limits.maxValues) return;
    this.fail(node.range?.[0] ?? 0, field, `more than ${this.#limits.maxValues} values`, 'ERR_DISCOVERY_FILE_LIMIT');
  }

  /** The node itself, or the one that an alias stands for: the last of its name before it. */
  resolve(node: Node, field: string): Node {
    if (!isAlias(node)) return node;
    this.#anchored ??= this.#findAnchored();
    const target = this.#anchored.get(node);
    return target ?? this.fail(node.range?.[0] ?? 0, field, `no anchor for the alias ${quoteInput(node.source)}`);
  }

  fail(offset: number, field: string, message: string, code?: 'ERR_DISCOVERY_FILE_LIMIT'): never {
    const { line, col } = this.#lines.linePos(offset);
    throw new MeshFileError({
      code: code ?? 'ERR_DISCOVERY_FILE_CONTENT',
      path: this.path,
      line: Math.max(1, line),
      column: Math.max(1, col),
      field: field === '' ? undefined : field,
      message,
    });
  }

  #findAnchored(): Map<Node, Node> {
    const latest = new Map<string, Node>();
    const anchored = new Map<Node, Node>();
    visit(this.root, {
      Alias(_key, alias) {
        const target = latest.get(alias.source);
        if (target !== undefined) anchored.set(alias, target);
      },
      Value(_key, node) {
        if (node.anchor !== undefined) latest.set(node.anchor, node);
      },
    });
    return anchored;
  }
}

/**
 * Opens YAML text for reading value by value.
 * @throws {@link MeshFileError} ERR_DISCOVERY_FILE_CONTENT where the text is no single YAML document, ERR_DISCOVERY_FILE_LIMIT
 */
export function openYaml(path: string, text: string, limits: YamlLimits): YamlCursor {
  const file = new YamlFile(path, text, limits);
  return new YamlCursor(file, file.root, '');
}

/**
 * One value of a YAML file, with the path that leads to it. Reading methods give the value as the type they name, or throw a
 * {@link MeshFileError} with line, column and field path.
 */
export class YamlCursor {
  /** The path from the top: `workloads[2].services`. */
  readonly field: string;
  readonly #file: YamlFile;
  readonly #node: Node;
  readonly #offset: number;
  readonly #keyOffset: number;

  constructor(file: YamlFile, node: Node, field: string, key?: Node) {
    file.count(node, field);
    this.#file = file;
    this.field = field;
    this.#offset = node.range?.[0] ?? 0;
    this.#keyOffset = key?.range?.[0] ?? this.#offset;
    this.#node = file.resolve(node, field);
  }

  /** The tag the value is written with, `!Exact`; undefined without one. */
  get tag(): string | undefined {
    return this.#node.tag;
  }

  /** True for `null`, `~` and nothing at all. */
  get isNull(): boolean {
    return isScalar(this.#node) && this.#node.value === null && this.#node.tag === undefined;
  }

  /** True for an empty list, an empty mapping, an empty text and null, whatever the tag. */
  get isEmpty(): boolean {
    const node = this.#node;
    if (isMap(node) || isSeq(node)) return node.items.length === 0;
    return isScalar(node) && (node.value === null || node.value === '');
  }

  fail(message: string): never {
    this.#file.fail(this.#offset, this.field, message);
  }

  /** As {@link fail}, where the fault is the key that the value stands under. */
  failAtKey(message: string): never {
    this.#file.fail(this.#keyOffset, this.field, message);
  }

  /** A mapping with these keys and no other. */
  mapping<K extends string>(keys: readonly K[]): Mapping<K> {
    const known: ReadonlySet<string> = new Set(keys);
    const values = new Map<string, YamlCursor>();
    for (const { key, value } of this.#pairs((text) => (this.field === '' ? text : `${this.field}.${text}`))) {
      if (!known.has(key)) value.failAtKey(`unknown key ${quoteInput(key)}; known here: ${keys.join(', ')}`);
      values.set(key, value);
    }
    return new Mapping(this, values);
  }

  /** The pairs of a mapping whose keys are data; numbers among them as text. */
  entries(): { readonly key: string; readonly value: YamlCursor }[] {
    return this.#pairs((key) => `${this.field}[${quoteInput(key)}]`);
  }

  list<T>(read: (item: YamlCursor) => T): T[] {
    const node = this.#untagged();
    if (!isSeq(node)) return this.#expected('a list');
    return node.items.map((item, at) => read(new YamlCursor(this.#file, item as Node, `${this.field}[${at}]`)));
  }

  /** @param tagged - true where the caller has looked at the tag */
  text(tagged = false): string {
    const node = tagged ? this.#node : this.#untagged();
    if (!isScalar(node) || typeof node.value !== 'string') return this.#expected('a text');
    return node.value;
  }

  nonEmptyText(): string {
    const text = this.text();
    if (text === '') this.fail('must not be empty');
    return text;
  }

  integer(min: number, max: number): number {
    const node = this.#untagged();
    const value = isScalar(node) ? node.value : undefined;
    if (typeof value !== 'number' || !Number.isInteger(value)) return this.#expected('an integer');
    if (value < min || value > max) this.fail(`${value} is not from ${min} to ${max}`);
    return value;
  }

  boolean(): boolean {
    const node = this.#untagged();
    if (!isScalar(node) || typeof node.value !== 'boolean') return this.#expected('true or false');
    return node.value;
  }

  oneOf<T extends string>(values: readonly T[]): T {
    const text = this.text();
    return values.find((value) => value === text) ?? this.fail(`${quoteInput(text)} is none of ${values.join(', ')}`);
  }

  #pairs(fieldOf: (key: string) => string): { key: string; value: YamlCursor }[] {
    const node = this.#untagged();
    if (!isMap(node)) return this.#expected('a mapping');
    const seen = new Set<string>();
    return node.items.map((pair) => {
      const keyNode = this.#file.resolve(pair.key as Node, this.field);
      const raw = isScalar(keyNode) ? keyNode.value : undefined;
      if (typeof raw !== 'string' && typeof raw !== 'number')
        return this.#failAt(keyNode, 'a key must be a text or a number');
      const key = String(raw);
      if (seen.has(key)) this.#failAt(keyNode, `the key ${quoteInput(key)} is there twice`);
      seen.add(key);
      // `key:` with nothing after it has a null scalar for a value, `{key}` has no node at all.
      const value = new YamlCursor(this.#file, (pair.value ?? pair.key) as Node, fieldOf(key), keyNode);
      return pair.value === null ? value.fail('has no value') : { key, value };
    });
  }

  /** A tag where none belongs would be a meaning that is lost. */
  #untagged(): Node {
    const { tag } = this.#node;
    if (tag !== undefined && !tag.startsWith('tag:yaml.org,2002:'))
      this.fail(`the tag ${quoteInput(tag)} has no meaning here`);
    return this.#node;
  }

  #expected(what: string): never {
    this.fail(`expected ${what}, got ${describe(this.#node, what)}`);
  }

  #failAt(node: Node, message: string): never {
    this.#file.fail(node.range?.[0] ?? this.#offset, this.field, message);
  }
}

/** The values of a mapping with known keys. A null stands for an optional value that is absent. */
export class Mapping<K extends string> {
  readonly #cursor: YamlCursor;
  readonly #values: ReadonlyMap<string, YamlCursor>;

  constructor(cursor: YamlCursor, values: ReadonlyMap<string, YamlCursor>) {
    this.#cursor = cursor;
    this.#values = values;
  }

  required(key: K): YamlCursor {
    return this.#values.get(key) ?? this.#cursor.fail(`the key "${key}" is missing`);
  }

  /** The value if the key is there, were it null. */
  given(key: K): YamlCursor | undefined {
    return this.#values.get(key);
  }

  optional<T>(key: K, read: (value: YamlCursor) => T): T | undefined;
  optional<T>(key: K, read: (value: YamlCursor) => T, fallback: T): T;
  optional<T>(key: K, read: (value: YamlCursor) => T, fallback?: T): T | undefined {
    const value = this.#values.get(key);
    return value === undefined || value.isNull ? fallback : read(value);
  }
}

function describe(node: Node, wanted: string): string {
  if (isMap(node)) return 'a mapping';
  if (isSeq(node)) return 'a list';
  const value = isScalar(node) ? node.value : undefined;
  if (value === null) return 'nothing';
  if (typeof value === 'string') return `the text ${quoteInput(value)}`;
  return `${String(value)}${wanted === 'a text' ? ' (put it in quotes)' : ''}`;
}
