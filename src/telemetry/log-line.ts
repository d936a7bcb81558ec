import { quoteJson, quotePlain } from './quote-value.ts';

export type AccessLogLevel = 'debug' | 'info' | 'warn' | 'error';

/** The scope that every line of the access log carries. */
export const ACCESS_LOG_SCOPE = 'access';

/** What an address or an authority is made of. Anything else in one is somebody's trick, and is quoted. */
const ADDRESS = /^[\w.:[\]%-]+$/;

/** Whether there is something to write: what is not known is left out of a line. */
export function known(value: string | undefined): value is string {
  return value !== undefined && value !== '';
}

/** A line in the making, plain. */
export class PlainLine {
  readonly #maxValueLength: number;
  #line = '';
  #separator = '';

  constructor(maxValueLength: number) {
    this.#maxValueLength = maxValueLength;
  }

  begin(time: string, level: AccessLogLevel, message: string): void {
    this.#line = `${time}\t${level}\t${ACCESS_LOG_SCOPE}\t${message}\t`;
  }

  address(key: string, value: string | undefined): void {
    if (!known(value)) return;
    if (ADDRESS.test(value) && value.length <= this.#maxValueLength) this.#append(key, value);
    else this.text(key, value);
  }

  text(key: string, value: string | undefined): void {
    if (known(value)) this.#append(key, quotePlain(value, this.#maxValueLength));
  }

  number(key: string, value: number): void {
    this.#append(key, String(value));
  }

  end(): string {
    return this.#line;
  }

  #append(key: string, value: string): void {
    this.#line += `${this.#separator}${key}=${value}`;
    this.#separator = ' ';
  }
}

/** A line in the making, JSON. */
export class JsonLine {
  readonly #maxValueLength: number;
  #line = '';

  constructor(maxValueLength: number) {
    this.#maxValueLength = maxValueLength;
  }

  begin(time: string, level: AccessLogLevel, message: string): void {
    this.#line = `{"level":"${level}","time":"${time}","scope":"${ACCESS_LOG_SCOPE}","message":"${message}"`;
  }

  address(key: string, value: string | undefined): void {
    this.text(key, value);
  }

  text(key: string, value: string | undefined): void {
    if (known(value)) this.#line += `,"${key}":${quoteJson(value, this.#maxValueLength)}`;
  }

  number(key: string, value: number): void {
    this.#line += `,"${key}":${Number.isFinite(value) ? value : 'null'}`;
  }

  end(): string {
    return `${this.#line}}`;
  }
}
