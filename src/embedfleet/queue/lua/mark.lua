-- Read the mark that says to which system the queues belong, or set it.
--
-- KEYS[1] meta  HASH  counters, mark
--
-- ARGV[1] mark       what to set if there is no mark; '' to read only
-- ARGV[2] replacing  the mark that `mark` may replace; '' for none
--
-- Returns the mark that is there now; '' if there is none.
-- Keeps: a mark is set once, and replaced only by a caller that has read it. It is lost exactly when the
-- counters are lost.

local held = redis.call('HGET', key.meta, 'mark') or ''
if ARGV[1] ~= '' and (held == '' or held == ARGV[2]) then
  held = ARGV[1]
  redis.call('HSET', key.meta, 'mark', held)
end
return held
