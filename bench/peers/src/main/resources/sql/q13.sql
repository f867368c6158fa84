SELECT B.auction, B.bidder, B.price, B.`dateTime`, S.`value`
FROM bid_at_processing_time AS B
JOIN side_input FOR SYSTEM_TIME AS OF B.p_time AS S ON MOD(B.auction, 10000) = S.key
