interface Window {
  /** What a canvas was asked to write. */
  texts: string[];
  /** What a text of the log would set if it ever ran as a program. */
  pwned: unknown;
}
