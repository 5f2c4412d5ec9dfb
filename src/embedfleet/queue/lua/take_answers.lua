-- Take answers out of a mailbox, those that came first.
--
-- KEYS[1] answers  LIST  answers that were not taken
--
-- ARGV[1] limit  answers, 1 to 1,000
--
-- Returns the answers.
-- Keeps: an answer is taken once.

local limit = tonumber(ARGV[1])
local answers = redis.call('LRANGE', key.answers, 0, limit - 1)
if #answers > 0 then
  redis.call('LTRIM', key.answers, #answers, -1)
end
return answers
