-- Leave answers in a mailbox.
--
-- KEYS[1] answers  LIST  answers that were not taken
--
-- ARGV[1] keep_seconds  how long all of them are kept from now on
-- ARGV[2..] answers     bytes; at most 1,000
--
-- Returns how many answers wait there now.
-- Keeps: a mailbox expires after its last answer. It rings when a mailbox that was empty has an answer.

local waiting = 0
for i = 2, #ARGV do
  waiting = redis.call('RPUSH', key.answers, ARGV[i])
end
redis.call('PEXPIRE', key.answers, math.ceil(tonumber(ARGV[1]) * 1000))
if waiting > 0 and waiting == #ARGV - 1 then
  redis.call('PUBLISH', key.answers, '')
end
return waiting
