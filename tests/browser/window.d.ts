interface Window {
  /** The texts that a canvas has drawn. */
  texts: string[];
  /** Set by a text of the log if it ever runs as a script. */
  pwned: unknown;
}
